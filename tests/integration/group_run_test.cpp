// Whole runs with the real trainer and trials over several slots: what groups compute is what one trainer computes, to
// rounding, and nothing that happens to them changes a bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cmath>
#include <cstdlib>
#include <sstream>

#include "tests/faults/oracle.h"
#include "tests/integration/run_process.h"

namespace tenfold {
namespace {

using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;

class RealGroupRun : public testing::Test {
 protected:
  std::vector<std::string> run(const std::string& db, std::vector<std::string> settings) {
    const char* source = std::getenv("TENFOLD_SOURCE_DIR");
    std::vector<std::string> words{
        "run", std::string(source) + "/experiments/smoke.yaml", "--db", db, "--slots", "4", "--device", "cpu"};
    for (const std::string& setting : settings) words.insert(words.end(), {"--set", setting});
    return words;
  }
  // Long enough that something can happen, with checkpoints to go on from.
  std::vector<std::string> long_run(const std::string& db) {
    return run(db, {"resources.ranks_per_trial=4", "train.epochs=30", "ttt.steps=40", "checkpoint.every_steps=20"});
  }
  // Of an undisturbed run.
  const std::string& expected() {
    static std::string expected_;
    if (expected_.empty()) {
      const Finished finished = work_.tenfold(long_run("calm.db"));
      EXPECT_EQ(finished.exit_code, 0) << finished.output;
      expected_ = results_of(work_, "calm.db");
    }
    return expected_;
  }
  void expect_recovered(const std::string& db) {
    EXPECT_EQ(work_.query(db, "SELECT count(*) > 0 FROM attempt WHERE resumed_from_step > 0"), "1\n");
    expect_as_undisturbed(work_, db, expected());
    expect_none_left(work_);
  }
  Workspace work_;
};

// The numbers of a query's rows.
std::vector<double> numbers(const std::string& csv) {
  std::vector<double> values;
  std::istringstream in(csv);
  for (std::string line; std::getline(in, line);) {
    std::istringstream cells(line);
    for (std::string cell; std::getline(cells, cell, ',');) values.push_back(std::stod(cell));
  }
  return values;
}

TEST_F(RealGroupRun, OneTwoAndFourRanksComputeTheSameToRounding) {
  work_.write("x.yaml", R"(name: sizes
dataset: {kind: synthetic, samples: 240, features: 8, classes: 3, separation: 3.0}
folds: {kind: stratified, k: 2}
model: {kind: mlp, hidden: [16], norm: batch, dropout: 0.1}
train: {steps: 4, batch_size: 18, clip_norm: 0.5}
ttt: {method: entropy_diversity, steps: 3, batch_size: 32}
metrics: [accuracy, nll]
sweep: {resources.ranks_per_trial: [1, 2, 4]}
)");
  const Finished finished = work_.tenfold({"run", "x.yaml", "--db", "a.db", "--slots", "4", "--device", "cpu"});
  ASSERT_EQ(finished.exit_code, 0) << finished.output;
  EXPECT_EQ(work_.query("a.db", "SELECT count(DISTINCT device) >= 3 FROM attempt"), "1\n");
  const auto of = [&](int ranks, const std::string& columns, const std::string& table) {
    return numbers(
        work_.query("a.db", "SELECT " + columns + " FROM " + table +
                                " s JOIN trial t ON t.id = s.trial JOIN configuration_parameter p ON p.configuration = "
                                "t.configuration WHERE p.key = 'resources.ranks_per_trial' AND p.value = '" +
                                std::to_string(ranks) + "' ORDER BY t.repeat, t.fold, s.step"));
  };
  for (const auto& [columns, table] : {std::pair{"s.loss, s.grad_norm", "trial_train_step"},
                                       std::pair{"s.total, s.entropy, s.diversity, s.grad_norm", "ttt_step"}}) {
    const std::vector<double> one = of(1, columns, table);
    ASSERT_FALSE(one.empty()) << table;
    for (const int ranks : {2, 4}) {
      const std::vector<double> several = of(ranks, columns, table);
      ASSERT_EQ(several.size(), one.size()) << table;
      for (std::size_t i = 0; i < one.size(); ++i)
        EXPECT_NEAR(several[i], one[i], 1e-5 * std::max(1.0, std::abs(one[i]))) << table << ", " << ranks << " ranks";
    }
  }
}

TEST_F(RealGroupRun, ATrainerKilledInTheMiddleChangesNoBit) {
  expected();
  for (const char* fault : {"kill@step:50,stage=fit", "segv@step:30,stage=adapt"}) {
    const std::string db = std::string(fault, 4) + ".db";
    work_.set("TENFOLD_FAULT", std::string(fault) + ",once=" + work_.file(db + ".struck").string());
    const Finished finished = work_.tenfold(long_run(db));
    EXPECT_EQ(finished.exit_code, 0) << finished.output;
    EXPECT_THAT(work_.query(db, "SELECT DISTINCT reason FROM attempt WHERE outcome = 'failed'"),
                HasSubstr("of its 4 trainers"));
    expect_recovered(db);
  }
}

// A thread that computes hangs, its heartbeats go on: those that wait for its sums give it up.
TEST_F(RealGroupRun, AMemberThatHangsBetweenItsHeartbeatsIsGivenUpByTheOthers) {
  expected();
  work_.set("TENFOLD_GROUP_SILENCE_S", "5");
  for (const char* fault : {"hang@together:40,stage=fit", "hang@together:20,stage=adapt"}) {
    const std::string db = std::string(fault).substr(14, 2) + ".db", struck = work_.file(db + ".struck").string();
    work_.set("TENFOLD_FAULT", std::string(fault) + ",once=" + struck);
    const Finished finished = work_.tenfold(long_run(db));
    EXPECT_EQ(finished.exit_code, 0) << finished.output;
    EXPECT_TRUE(std::filesystem::exists(struck));
    EXPECT_THAT(work_.query(db, "SELECT DISTINCT reason FROM attempt WHERE outcome = 'failed'"),
                AllOf(HasSubstr("of its 4 trainers"), HasSubstr("of the trial's group is silent")));
    expect_recovered(db);
  }
}

// One reads its data from a slow disk, for longer than a rank may be silent in the middle of a step.
TEST_F(RealGroupRun, ASlowReaderKeepsNobodyFromComputing) {
  expected();
  work_.set("TENFOLD_GROUP_SILENCE_S", "4");
  for (const char* stage : {"fit", "adapt"}) {
    const std::string db = std::string(stage) + ".db";
    work_.set("TENFOLD_FAULT",
              "slow@load:1,stage=" + std::string(stage) + ",once=" + work_.file(db + ".slow").string());
    const Finished finished = work_.tenfold(long_run(db));
    EXPECT_EQ(finished.exit_code, 0) << finished.output;
    EXPECT_TRUE(std::filesystem::exists(work_.file(db + ".slow")));
    EXPECT_EQ(work_.query(db, "SELECT count(*) FROM attempt WHERE outcome = 'failed'"), "0\n");
    expect_as_undisturbed(work_, db, expected());
  }
}

TEST_F(RealGroupRun, DrainedInTheMiddleItGoesOnFromThere) {
  expected();
  const std::string struck = work_.file("struck").string();
  work_.set("TENFOLD_FAULT", "stop@step:100,stage=fit,once=" + struck);
  const pid_t pid = work_.start(long_run("a.db"));
  ASSERT_TRUE(work_.wait_until_stopped(struck));
  ::kill(pid, SIGTERM);
  const auto drains = [&] { return work_.holds("a.db", "SELECT count(*) > 0 FROM event WHERE kind = 'drain'"); };
  EXPECT_TRUE(Workspace::wait_until(drains, seconds(60)));
  for (const pid_t trainer : work_.processes("tenfold-trainer")) ::kill(trainer, SIGCONT);
  const Finished drained = work_.wait(pid);
  EXPECT_EQ(drained.exit_code, 75) << drained.output;
  expect_none_left(work_);
  const Finished again = work_.tenfold(long_run("a.db"));
  EXPECT_EQ(again.exit_code, 0) << again.output;
  expect_recovered("a.db");
}

}  // namespace
}  // namespace tenfold

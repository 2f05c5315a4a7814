// A loss that becomes infinite or NaN, in training and while adapting, under each policy of the experiment: what
// becomes of the trial, and that no other trial's numbers change by a bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <sstream>

#include "tests/faults/fault_run.h"

namespace tenfold {
namespace {

using std::chrono::seconds;
using testing::AllOf;
using testing::Each;
using testing::HasSubstr;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

// Plain gradient descent through layers without norms: with a rate of 3000 it doubles in the air after a few updates.
// The smaller rate beside it learns. Checkpoints come at steps alone, so that what is gone back to is the same each
// time.
constexpr const char* kExperiment = R"(name: wild
dataset: {kind: synthetic, samples: 160, features: 7, classes: 3, separation: 4, seed: 5}
folds: {kind: stratified, k: 2}
model: {kind: mlp, hidden: [12, 12, 12], norm: none}
train: {steps: 60, batch_size: 16, optimizer: {kind: sgd, lr: 0.05}}
ttt: {steps: 3, batch_size: 16, lr: 1e-4}
checkpoint: {every_s: 1000, every_steps: 2}
metrics: [accuracy, nll]
)";

class NonFiniteFault : public ::testing::Test {
 protected:
  NonFiniteFault() { work_.write("wild.yaml", kExperiment); }

  std::vector<std::string> words(const std::string& db, const std::string& key, const std::string& rates,
                                 const std::vector<std::string>& more) const {
    std::vector<std::string> all{
        "run",   work_.file("wild.yaml").string(), "--db", db, "--slots", "1", "--device", "cpu",
        "--set", "sweep." + key + "=" + rates};
    for (const std::string& setting : more) {
      all.push_back("--set");
      all.push_back(setting);
    }
    return all;
  }
  Finished run(const std::string& db, const std::string& key, const std::string& rates,
               const std::vector<std::string>& more) const {
    return work_.wait(work_.start(words(db, key, rates, more)), seconds(200));  // a busy machine takes its time
  }
  // All numbers of the trials with this rate.
  std::string numbers_of(const std::string& db, const std::string& key, const std::string& rate) const {
    const std::string of =
        " FROM trial t JOIN configuration_parameter p ON p.configuration = t.configuration AND p.key = '" + key +
        "' AND p.value = '" + rate + "' ";
    return work_.query(db, "SELECT t.fold, s.step, s.loss, s.grad_norm, s.lr" + of +
                               "JOIN train_step s ON s.fit = t.fit ORDER BY 1, 2") +
           work_.query(db, "SELECT t.fold, s.step, s.total, s.grad_norm, s.lr" + of +
                               "JOIN ttt_step s ON s.trial = t.id ORDER BY 1, 2") +
           work_.query(db, "SELECT t.fold, s.phase, s.metric, s.step, s.value" + of +
                               "JOIN evaluation s ON s.trial = t.id ORDER BY 1, 2, 3, 4");
  }
  // The neighbours have the numbers that they have without the wild ones.
  void expect_neighbours_unchanged(const std::string& db, const std::string& key, const std::string& rate,
                                   const std::vector<std::string>& more = {}) const {
    ASSERT_EQ(run("calm.db", key, "[" + rate + "]", more).exit_code, 0);
    const std::string calm = numbers_of("calm.db", key, rate);
    EXPECT_GT(lines_of(calm).size(), 20u);
    EXPECT_EQ(numbers_of(db, key, rate), calm);
  }
  void expect_no_null(const std::string& db) const {
    EXPECT_EQ(work_.query(db,
                          "SELECT (SELECT count(*) FROM train_step WHERE loss IS NULL OR grad_norm IS NULL) + "
                          "(SELECT count(*) FROM ttt_step WHERE total IS NULL OR grad_norm IS NULL) + "
                          "(SELECT count(*) FROM evaluation WHERE value IS NULL)"),
              "0\n");
  }
  Workspace work_;
};

constexpr const char* kTraining = "train.optimizer.lr";
constexpr const char* kAdapting = "ttt.lr";

TEST_F(NonFiniteFault, FailsTheFitAndNobodyElse) {
  const Finished finished = run("a.db", kTraining, "[0.05, 3000]", {});
  EXPECT_EQ(finished.exit_code, 1) << finished.output;
  expect_ended(work_, "a.db");
  EXPECT_EQ(work_.query("a.db", "SELECT status, count(*) FROM trial GROUP BY 1 ORDER BY 1"), "done,2\nfailed,2\n");
  const auto reasons = lines_of(work_.query("a.db", "SELECT reason FROM fit WHERE status = 'failed'"));
  ASSERT_EQ(reasons.size(), 2u);
  EXPECT_THAT(reasons, Each(AllOf(HasSubstr("the training"), HasSubstr("at update"))));
  // It would come back: nothing is gained by trying again.
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM attempt WHERE fit IS NOT NULL"), "4\n");
  expect_neighbours_unchanged("a.db", kTraining, "0.05");
}

TEST_F(NonFiniteFault, StopKeepsWhatWasFiniteInTraining) {
  const Finished finished = run("a.db", kTraining, "[0.05, 3000]", {"on_nonfinite=stop"});
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  expect_finished(work_, "a.db");
  expect_no_null("a.db");
  EXPECT_EQ(work_.query("a.db", "SELECT status, count(*) FROM trial GROUP BY 1"), "done,4\n");
  const auto reasons =
      lines_of(work_.query("a.db", "SELECT reason FROM attempt WHERE fit IS NOT NULL AND reason <> ''"));
  ASSERT_EQ(reasons.size(), 2u);
  EXPECT_THAT(reasons, Each(AllOf(HasSubstr("at update"), HasSubstr("kept is the model after update"))));
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM event WHERE kind = 'stopped_nonfinite'"), "2\n");
  expect_neighbours_unchanged("a.db", kTraining, "0.05");
}

// Fits are shared by experiments of a store; one that was stopped is not a whole one for who would rather have it fail.
TEST_F(NonFiniteFault, WhatOneExperimentStoppedFailsInAnotherThatSaysSo) {
  ASSERT_EQ(run("a.db", kTraining, "[0.05, 3000]", {"on_nonfinite=stop"}).exit_code, 0);
  const std::string of_the_first =
      "SELECT l.label, l.metric, l.phase, l.mean FROM leaderboard l WHERE l.experiment = 'wild' ORDER BY 1, 2, 3";
  const std::string before = work_.query("a.db", of_the_first);
  std::vector<std::string> plan = words("a.db", kTraining, "[0.05, 3000]", {"name=strict", "ttt.steps=4"});
  plan.front() = "plan";
  EXPECT_THAT(work_.tenfold(plan).output, HasSubstr("a.db has 2 of 4 fits and 0 of 4 trials"));
  const Finished strict = run("a.db", kTraining, "[0.05, 3000]", {"name=strict", "ttt.steps=4"});
  EXPECT_EQ(strict.exit_code, 1) << strict.output;
  EXPECT_THAT(strict.output, HasSubstr("Computed for this experiment alone: 2 fits"));
  expect_ended(work_, "a.db");
  EXPECT_EQ(work_.query("a.db",
                        "SELECT p.value, t.status, count(*) FROM trial t JOIN experiment e ON e.id = t.experiment JOIN "
                        "configuration_parameter p ON p.configuration = t.configuration WHERE e.name = 'strict' GROUP "
                        "BY 1, 2 ORDER BY 1"),
            "0.05,done,2\n3000,failed,2\n");
  EXPECT_EQ(work_.query("a.db", of_the_first), before);
  // Two that stayed finite are shared, two are there twice.
  EXPECT_EQ(work_.query("a.db", "SELECT status, stopped_nonfinite, count(*) FROM fit GROUP BY 1, 2 ORDER BY 1, 2"),
            "done,0,2\ndone,1,2\nfailed,0,2\n");
  const Finished same = run("a.db", kTraining, "[0.05, 3000]", {"name=same", "ttt.steps=5", "on_nonfinite=stop"});
  EXPECT_EQ(same.exit_code, 0) << same.output;
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM fit"), "6\n");
}

TEST_F(NonFiniteFault, StopKeepsWhatWasFiniteWhileAdapting) {
  const Finished finished = run("a.db", kAdapting, "[1e-4, 1e38]", {"on_nonfinite=stop"});
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  expect_finished(work_, "a.db");
  expect_no_null("a.db");
  const auto reasons =
      lines_of(work_.query("a.db", "SELECT reason FROM attempt WHERE trial IS NOT NULL AND reason <> ''"));
  ASSERT_EQ(reasons.size(), 2u);
  EXPECT_THAT(reasons, Each(HasSubstr("is kept as it was before that pass")));
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM event WHERE kind = 'stopped_nonfinite' AND trial IS NOT NULL"),
            "2\n");
  expect_neighbours_unchanged("a.db", kAdapting, "0.0001");
}

TEST_F(NonFiniteFault, ALowerRateIsTriedWhileAdapting) {
  const std::vector<std::string> policy{"on_nonfinite.policy=lower_rate", "on_nonfinite.factor=1e-21"};
  const Finished finished = run("a.db", kAdapting, "[1e-4, 1e38]", policy);
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  expect_finished(work_, "a.db");
  expect_no_null("a.db");
  EXPECT_EQ(work_.query("a.db", "SELECT rate_lowered, count(*) FROM trial GROUP BY 1 ORDER BY 1"), "0,2\n2,2\n");
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM trial WHERE rate_scale BETWEEN 0.9e-42 AND 1.1e-42"), "2\n");
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM event WHERE kind = 'rate_lowered'"), "4\n");
  expect_neighbours_unchanged("a.db", kAdapting, "0.0001");
}

TEST_F(NonFiniteFault, LoweredInVainItFailsAndSaysSo) {
  const Finished finished = run("a.db", kTraining, "[0.05, 1e30]",
                                {"on_nonfinite.policy=lower_rate", "on_nonfinite.factor=0.5", "on_nonfinite.times=2"});
  EXPECT_EQ(finished.exit_code, 1) << finished.output;
  expect_ended(work_, "a.db");
  const auto reasons = lines_of(work_.query("a.db", "SELECT reason FROM fit WHERE status = 'failed'"));
  ASSERT_EQ(reasons.size(), 2u);
  EXPECT_THAT(reasons, Each(HasSubstr("lowered 2 times, to 0.25 of what the experiment gives, in vain")));
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM attempt WHERE fit IS NOT NULL"), "8\n");
}

// What a lower rate begins from was not tried with it: only what was is given up.
TEST(LoweredRate, GoesBackACheckpointAtATime) {
  Workspace work;
  work.use_fake_trainer();
  work.write("x.yaml", std::string(kFake) + "on_nonfinite: {policy: lower_rate, times: 3}\ncheckpoint: {keep: 4}\n");
  for (const auto& [name, value] :
       {std::pair{"FAIL", "1"}, {"FAIL_STAGE", "fit"}, {"NO_RETRY", "1"}, {"NONFINITE", "1"}})
    work.set(std::string("TENFOLD_FAKE_") + name, value);
  const Finished finished = work.tenfold({"run", "x.yaml", "--db", "a.db"});
  EXPECT_EQ(finished.exit_code, 1) << finished.output;
  // It fails at step 20 every time, and has a checkpoint every 5; the last one was made on the way with a lower rate.
  EXPECT_EQ(work.query("a.db",
                       "SELECT coalesce(resumed_from_step, 0) FROM attempt WHERE fit = (SELECT id FROM fit WHERE "
                       "status = 'failed') ORDER BY number"),
            "0\n15\n10\n15\n");
  expect_sound(work, "a.db");
  expect_none_left(work);
}

// The number of times it was lowered is in the store: everything is killed once the first lowering is committed.
TEST_F(NonFiniteFault, ALoweredRateSurvivesAKillOfEverything) {
  const std::vector<std::string> policy{"on_nonfinite.policy=lower_rate", "on_nonfinite.factor=0.05",
                                        "on_nonfinite.times=5", "train.steps=1000", "checkpoint.every_steps=50"};
  const Finished calm = run("whole.db", kTraining, "[0.05, 3000]", policy);
  ASSERT_EQ(calm.exit_code, 0) << calm.output;
  expect_no_null("whole.db");
  EXPECT_EQ(work_.query("whole.db", "SELECT count(*) FROM fit WHERE rate_lowered > 0"), "2\n");
  expect_finished(work_, "whole.db");

  const pid_t pid = work_.start(words("killed.db", kTraining, "[0.05, 3000]", policy));
  const auto lowered = [&] {
    return work_.holds("killed.db", "SELECT count(*) > 0 FROM event WHERE kind = 'rate_lowered'");
  };
  Workspace::wait_until(lowered, seconds(60));
  for (const pid_t victim : work_.processes()) ::kill(victim, SIGKILL);
  work_.wait(pid, seconds(200));
  expect_none_left(work_);
  expect_sound(work_, "killed.db");
  const Finished again = run("killed.db", kTraining, "[0.05, 3000]", policy);
  ASSERT_EQ(again.exit_code, 0) << again.output;
  EXPECT_EQ(work_.query("killed.db", "SELECT f.fold, f.rate_lowered, f.rate_scale FROM fit f ORDER BY f.id"),
            work_.query("whole.db", "SELECT f.fold, f.rate_lowered, f.rate_scale FROM fit f ORDER BY f.id"));
  expect_as_undisturbed(work_, "killed.db", results_of(work_, "whole.db"));
  expect_neighbours_unchanged("killed.db", kTraining, "0.05", {"train.steps=1000"});
}

}  // namespace
}  // namespace tenfold

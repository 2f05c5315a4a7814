// What was done before under the same name is not what is asked for now: other data, another program, another store.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "db/sqlite.h"
#include "tests/faults/oracle.h"

namespace tenfold {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

MATCHER(HasOneLine, "") { return std::count(arg.begin(), arg.end(), '\n') == 1; }

constexpr const char* kExperiment = R"(name: table
dataset: {kind: csv, path: data.csv, label_column: class}
folds: {kind: stratified, k: 2}
model: {kind: mlp, hidden: [8]}
train: {epochs: 4, batch_size: 16}
ttt: {method: entropy_diversity, steps: 5, batch_size: 32}
metrics: [accuracy, nll]
sweep:
  ttt.lr: [1e-4, 1e-3]
)";

class Versions : public testing::Test {
 protected:
  void SetUp() override {
    work_.write("x.yaml", kExperiment);
    write_data(0);
  }
  void write_data(double offset) {
    std::string text = "a,b,class\n";
    for (int i = 0; i < 80; ++i)
      text += std::to_string(0.1 * (i % 7) + offset) + "," + std::to_string(0.3 * (i % 5)) + (i % 2 ? ",x\n" : ",y\n");
    work_.write("data.csv", text);
  }
  std::vector<std::string> run(const std::string& db) {
    return {"run", "x.yaml", "--db", db, "--slots", "2", "--device", "cpu"};
  }
  std::string changes(const std::string& db) {
    return work_.query(db, "SELECT detail FROM event WHERE kind = 'experiment_changed'");
  }
  // What the current revision shows; rows of earlier ones are kept beside it.
  std::string leaders(const std::string& db) {
    return work_.query(db, "SELECT label, metric, phase, mean, sd, folds FROM leaderboard ORDER BY 1, 2, 3");
  }
  void expect_as_fresh(const std::string& db) {
    ASSERT_EQ(work_.tenfold(run("fresh.db")).exit_code, 0);
    expect_as_undisturbed(work_, db, results_of(work_, "fresh.db"));
    EXPECT_EQ(leaders(db), leaders("fresh.db"));
  }
  Workspace work_;
};

TEST_F(Versions, ChangedDataAreToldAndNotMixed) {
  ASSERT_EQ(work_.tenfold(run("a.db")).exit_code, 0);
  const std::string earlier = results_of(work_, "a.db"), led = leaders("a.db");
  write_data(0.5);
  const Finished again = work_.tenfold(run("a.db"));
  EXPECT_EQ(again.exit_code, 0) << again.output;
  EXPECT_THAT(again.output, AllOf(HasSubstr("The data have changed since the last run (fingerprint "),
                                  HasSubstr("not mixed with the new ones"), HasSubstr("0 of 4 trials done already")));
  EXPECT_THAT(changes("a.db"), AllOf(HasSubstr("the data have changed"), HasOneLine()));
  expect_as_fresh("a.db");
  EXPECT_NE(results_of(work_, "a.db"), earlier);
  EXPECT_EQ(work_.query("a.db", "SELECT revision, count(*) FROM trial GROUP BY 1"), "1,4\n2,4\n");
  // The data as they were: what was done on them counts again.
  write_data(0);
  EXPECT_THAT(work_.tenfold(run("a.db")).output, HasSubstr("nothing to do"));
  expect_as_undisturbed(work_, "a.db", earlier);
  EXPECT_EQ(leaders("a.db"), led);
}

TEST_F(Versions, AChangedFileIsToldAndNotMixed) {
  ASSERT_EQ(work_.tenfold(run("a.db")).exit_code, 0);
  std::string text = kExperiment;
  text.replace(text.find("epochs: 4"), 9, "epochs: 5");
  work_.write("x.yaml", text);
  work_.set("TENFOLD_FAULT", "kill@dispatch:1");
  const Finished killed = work_.tenfold(run("a.db"));
  work_.unset("TENFOLD_FAULT");
  EXPECT_THAT(killed.output, AllOf(HasSubstr("The experiment has changed: 2 configurations are new, 2 of earlier"),
                                   Not(HasSubstr("data have changed"))));
  const Finished again = work_.tenfold(run("a.db"));
  EXPECT_EQ(again.exit_code, 0) << again.output;
  EXPECT_THAT(again.output, HasSubstr("Going on: 0 of 4 trials done already")) << "it has not changed again";
  const char* const told =
      "\"the experiment's file or settings have changed: configurations that are new: 2, that no longer run: 2; "
      "trials: "
      "4, before: 4; earlier results are kept\"\n";
  EXPECT_EQ(changes("a.db"), told);
  expect_as_fresh("a.db");
  EXPECT_THAT(work_.tenfold(run("a.db")).output, HasSubstr("nothing to do"));
  EXPECT_EQ(changes("a.db"), told) << "once";
}

// Another results_version gives other identities: here as if the store were written by such a program.
TEST_F(Versions, ResultsOfAnotherProgramAreToldAndNotMixed) {
  ASSERT_EQ(work_.tenfold(run("a.db")).exit_code, 0);
  const std::string results = results_of(work_, "a.db"), led = leaders("a.db");
  {
    Connection connection(work_.file("a.db"), Connection::Access::read_write);
    for (const char* table : {"fit", "trial"})
      connection.execute(std::string("UPDATE ") + table + " SET identity = substr(identity, 2) || '0'");
    connection.execute("UPDATE configuration SET identity = substr(identity, 2) || '0'");
    connection.execute("UPDATE evaluation SET value = 0.25");
  }
  const Finished again = work_.tenfold(run("a.db"));
  EXPECT_EQ(again.exit_code, 0) << again.output;
  EXPECT_THAT(again.output, AllOf(HasSubstr("This tenfold computes other results than the one that ran before"),
                                  HasSubstr("not mixed with the new ones")));
  EXPECT_THAT(changes("a.db"),
              AllOf(HasSubstr("this tenfold computes other results than the one that ran before"), HasOneLine()));
  expect_as_undisturbed(work_, "a.db", results);
  EXPECT_EQ(leaders("a.db"), led);
  EXPECT_EQ(work_.query("a.db", "SELECT revision, count(*) FROM trial GROUP BY 1"), "1,4\n2,4\n");
}

TEST_F(Versions, ATrainerOfAnotherBuildIsNamedAndNothingIsLost) {
  const char* bin = std::getenv("TENFOLD_BIN_DIR");
  work_.set("TENFOLD_TRAINER", std::string(bin) + "/tenfold-other-version-trainer");
  const Finished refused = work_.tenfold(run("a.db"));
  EXPECT_EQ(refused.exit_code, 5) << refused.output;
  EXPECT_THAT(refused.output, AllOf(HasSubstr("protocol version"), HasSubstr("of one build")));
  expect_none_left(work_);
  expect_sound(work_, "a.db");
  work_.unset("TENFOLD_TRAINER");
  EXPECT_EQ(work_.tenfold(run("a.db")).exit_code, 0);
  ASSERT_EQ(work_.tenfold(run("calm.db")).exit_code, 0);
  expect_as_undisturbed(work_, "a.db", results_of(work_, "calm.db"));
}

TEST_F(Versions, AStoreOfANewerTenfoldIsLeftAlone) {
  ASSERT_EQ(work_.tenfold(run("a.db")).exit_code, 0);
  const std::string results = results_of(work_, "a.db");
  const std::string version = work_.query("a.db", "SELECT user_version FROM pragma_user_version");
  const auto set_version = [&](const std::string& to) {
    Connection(work_.file("a.db"), Connection::Access::read_write).execute("PRAGMA user_version = " + to);
  };
  set_version("9999");
  const std::vector<std::vector<std::string>> commands = {run("a.db"),
                                                          {"query", "SELECT 1", "--db", "a.db"},
                                                          {"status", "--db", "a.db"},
                                                          {"report", "table", "--kind", "ttt-loss", "--db", "a.db"}};
  for (const auto& command : commands) {
    const Finished refused = work_.tenfold(command);
    EXPECT_EQ(refused.exit_code, 6) << command[0] << ": " << refused.output;
    EXPECT_THAT(refused.output,
                AllOf(HasSubstr("a.db: was written by a newer tenfold (schema 9999"), HasSubstr("update tenfold")));
  }
  set_version(version);
  expect_as_undisturbed(work_, "a.db", results);
}

// The same command twice at once: one run does the work, and the other says who does.
TEST_F(Versions, TheSameExperimentStartedTwiceIsRunOnce) {
  work_.set("TENFOLD_FAULT", "stop@step:2,stage=fit,once=" + work_.file("struck").string());
  const pid_t first = work_.start(run("a.db"));
  ASSERT_TRUE(work_.wait_until_stopped(work_.file("struck")));
  std::filesystem::rename(work_.file("output"), work_.file("first"));
  const Finished second = work_.tenfold(run("a.db"));
  EXPECT_EQ(second.exit_code, 6) << second.output;
  const pid_t holder = rank_process(work_, 0);
  EXPECT_THAT(second.output, AllOf(HasSubstr("a.db is held by pid " + std::to_string(holder) + " on host "),
                                   HasSubstr(" since 20"), HasSubstr("(experiment table)")));
  for (const pid_t pid : work_.processes("tenfold-trainer")) ::kill(pid, SIGCONT);
  EXPECT_EQ(work_.wait(first).exit_code, 0);
  // In the same instant: whoever comes second to the store ends, and the work is done once.
  const pid_t both[] = {work_.start(run("b.db")), work_.start(run("b.db"))};
  int done = 0, refused = 0;
  for (const pid_t pid : both) {
    const int code = work_.wait(pid).exit_code;
    done += code == 0;
    refused += code == 6;
  }
  EXPECT_EQ(done + refused, 2);
  EXPECT_GE(done, 1);
  expect_none_left(work_);
  expect_as_undisturbed(work_, "b.db", results_of(work_, "a.db"));
}

}  // namespace
}  // namespace tenfold

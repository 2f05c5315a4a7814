// Parts of an experiment in stores of their own, merged into one, and runs that know when they will be cut off.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <map>

#include "experiments/file_text.h"
#include "tests/faults/fault_run.h"

namespace tenfold {
namespace {

using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class ShardRun : public FaultRun {
 protected:
  void SetUp() override { use_fake("checkpoint: {every_s: 20}\n"); }
  void run_shards(int count) {
    for (int i = 1; i <= count; ++i) {
      const Finished finished = complete("a.db", {"--shard", std::to_string(i) + "/" + std::to_string(count)});
      ASSERT_EQ(finished.exit_code, 0) << finished.output;
    }
  }
  // Contents by name of what lies beside the experiment, but for what the program said.
  std::map<std::string, std::string> files() {
    std::map<std::string, std::string> found;
    const std::filesystem::path here = work_.file("");
    for (const auto& entry : std::filesystem::recursive_directory_iterator(here)) {
      const std::string name = entry.path().lexically_relative(here).string();
      if (name == "output" || name.starts_with("merged")) continue;
      found[name] = file_text(entry.path()).value_or("");  // none of folders
    }
    return found;
  }
  // In the store, past every check of the program.
  void change(const std::string& db, const std::string& sql) {
    const std::string script =
        "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute(sys.argv[2])\nc.commit()\n";
    work_.write("change.py", script);
    const std::string line =
        "python3 '" + work_.file("change.py").string() + "' '" + work_.file(db).string() + "' \"" + sql + "\"";
    ASSERT_EQ(std::system(line.c_str()), 0);
  }
};

TEST_F(ShardRun, MergedPartsAreAnUndisturbedRun) {
  run_shards(3);
  EXPECT_FALSE(std::filesystem::exists(work_.file("a.db")));
  EXPECT_EQ(work_.query("a.shard-1-of-3.db", "SELECT count(*), count(DISTINCT fit) FROM trial WHERE status = 'done'"),
            "12,2\n");
  EXPECT_EQ(work_.query("a.shard-3-of-3.db", "SELECT count(*), count(DISTINCT fit) FROM trial WHERE status = 'done'"),
            "6,1\n");
  const Finished merged =
      work_.tenfold({"merge", "a.db", "a.shard-1-of-3.db", "a.shard-2-of-3.db", "a.shard-3-of-3.db"});
  EXPECT_EQ(merged.exit_code, 0) << merged.output;
  EXPECT_THAT(merged.output, AllOf(HasSubstr("24 trials and 4 fits taken from 3 stores"), HasSubstr("24 trials done\n"),
                                   Not(HasSubstr("not among them"))));
  expect_as_undisturbed(work_, "a.db", expected());
  ASSERT_EQ(complete("calm.db").exit_code, 0);
  for (const char* same :
       {"SELECT identity, label, position FROM configuration ORDER BY 1",
        "SELECT configuration IS NOT NULL, key, value FROM configuration_parameter ORDER BY 2, 3",
        "SELECT identity, status, seed, array_key FROM fit ORDER BY 1",
        "SELECT t.identity, c.identity, f.identity, t.seed, o.split_hash FROM trial t JOIN configuration c ON "
        "c.id = t.configuration JOIN fit f ON f.id = t.fit JOIN fold o ON o.id = t.split ORDER BY 1",
        "SELECT label, metric, phase, mean, sd, folds FROM leaderboard ORDER BY 1, 2, 3"})
    EXPECT_EQ(work_.query("a.db", same), work_.query("calm.db", same)) << same;
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM attempt WHERE outcome = 'done'"), "28\n");
  EXPECT_EQ(work_.query("a.db", "PRAGMA integrity_check"), "ok\n");
  EXPECT_EQ(work_.query("a.db", "PRAGMA foreign_key_check"), "");
  // It is a store like any other.
  EXPECT_THAT(complete("a.db").output, HasSubstr("nothing to do, all 24 trials are done"));
}

TEST_F(ShardRun, MergingAgainChangesNothingAndAMissingPartIsNamed) {
  run_shards(2);
  const Finished half = work_.tenfold({"merge", "a.db", "a.shard-2-of-2.db"});
  EXPECT_EQ(half.exit_code, 0) << half.output;
  EXPECT_THAT(half.output, HasSubstr("not among them: shards 1 of 2"));
  const Finished both = work_.tenfold({"merge", "a.db", "a.shard-1-of-2.db", "a.shard-2-of-2.db"});
  EXPECT_EQ(both.exit_code, 0) << both.output;
  EXPECT_THAT(both.output,
              AllOf(HasSubstr("12 trials and 2 fits taken"), HasSubstr("12 trials were there already, equal")));
  expect_as_undisturbed(work_, "a.db", expected());
  EXPECT_EQ(work_.query("a.db", "SELECT count(*), count(DISTINCT coalesce(fit, -trial)) FROM attempt"), "28,28\n");
}

TEST_F(ShardRun, APartThatWasStoppedIsFinishedElsewhere) {
  ASSERT_EQ(complete("a.db", {"--shard", "1/2"}).exit_code, 0);
  work_.set("TENFOLD_FAKE_STEP_MS", "50");
  const pid_t second = work_.start(run("a.db", {"--shard", "2/2"}));
  ASSERT_TRUE(work_.wait_until_some("tenfold-fake-trainer", 2, seconds(30)));
  ::kill(second, SIGUSR2);
  EXPECT_EQ(work_.wait(second).exit_code, 75);
  work_.unset("TENFOLD_FAKE_STEP_MS");
  const Finished merged = work_.tenfold({"merge", "a.db", "a.shard-1-of-2.db", "a.shard-2-of-2.db"});
  EXPECT_EQ(merged.exit_code, 1) << merged.output;
  EXPECT_THAT(merged.output, HasSubstr("12 trials done, 12 open"));
  EXPECT_EQ(complete("a.db").exit_code, 0);
  expect_as_undisturbed(work_, "a.db", expected());
}

TEST_F(ShardRun, WhatDoesNotFitTogetherIsRefusedByName) {
  run_shards(2);
  ASSERT_EQ(work_.tenfold({"merge", "a.db", "a.shard-1-of-2.db"}).exit_code, 0);
  std::filesystem::copy_file(work_.file("a.shard-1-of-2.db"), work_.file("b.db"));
  change("b.db", "UPDATE evaluation SET value = value + 0.5 WHERE trial = (SELECT min(id) FROM trial)");
  const std::string before = results_of(work_, "a.db");
  const Finished conflict = work_.tenfold({"merge", "a.db", "b.db"});
  EXPECT_EQ(conflict.exit_code, 6) << conflict.output;
  EXPECT_THAT(conflict.output, AllOf(HasSubstr("b.db cannot be merged into a.db"), HasSubstr("different results"),
                                     HasSubstr("repeat 0 fold")));

  change("b.db", "UPDATE experiment_revision SET results_version = 99");
  const Finished version = work_.tenfold({"merge", "a.db", "b.db"});
  EXPECT_EQ(version.exit_code, 6);
  EXPECT_THAT(version.output, HasSubstr("results of version 99"));

  std::string other = kFake;
  other.replace(other.find("1e-2]"), 5, "5e-2]");
  work_.write("x.yaml", other);
  ASSERT_EQ(complete("c.db", {"--shard", "2/2"}).exit_code, 0);
  const Finished changed = work_.tenfold({"merge", "a.db", "c.shard-2-of-2.db"});
  EXPECT_EQ(changed.exit_code, 6);
  EXPECT_THAT(changed.output, HasSubstr("asks for other configurations"));
  EXPECT_EQ(results_of(work_, "a.db"), before);
  EXPECT_EQ(work_.tenfold({"merge", "a.db", "none.db"}).exit_code, 6);
}

// One was run to its end, the log of one is as a kill left it, one is of an older version. Checkpoints lie beside them.
TEST_F(ShardRun, MergingLeavesThePartsAsTheyAre) {
  ASSERT_EQ(complete("a.db", {"--shard", "1/3"}).exit_code, 0);
  ASSERT_EQ(complete("a.db", {"--shard", "3/3"}).exit_code, 0);
  change("a.shard-3-of-3.db", "ALTER TABLE fit DROP COLUMN stopped_nonfinite");
  change("a.shard-3-of-3.db", "PRAGMA user_version = 3");
  work_.set("TENFOLD_FAKE_STEP_MS", "200");
  const pid_t killed = work_.start(run("a.db", {"--slots", "1", "--shard", "2/3"}));
  ASSERT_TRUE(work_.wait_until_some("tenfold-fake-trainer", 1, seconds(30)));
  ASSERT_TRUE(work_.wait_until(
      [&] { return work_.query("a.shard-2-of-3.db", "SELECT count(*) > 0 FROM checkpoint") == "1\n"; }));
  for (const pid_t victim : work_.processes()) ::kill(victim, SIGKILL);
  work_.wait(killed);
  ASSERT_TRUE(work_.wait_until_none_left(seconds(5)));
  ASSERT_GT(std::filesystem::file_size(work_.file("a.shard-2-of-3.db-wal")), 0u);

  std::filesystem::create_directory(work_.file("merged"));
  const auto before = files();
  const Finished merged =
      work_.tenfold({"merge", "merged/a.db", "a.shard-1-of-3.db", "a.shard-2-of-3.db", "a.shard-3-of-3.db"});
  EXPECT_EQ(merged.exit_code, 1) << merged.output;
  EXPECT_THAT(merged.output, HasSubstr("18 trials done, 6 open"));
  const auto after = files();
  ASSERT_GT(before.size(), 6u);
  for (const auto& [name, contents] : before) EXPECT_TRUE(after.contains(name) && after.at(name) == contents) << name;
  for (const auto& [name, contents] : after) EXPECT_TRUE(before.contains(name)) << name << " is new";
  work_.unset("TENFOLD_FAKE_STEP_MS");
  finish("merged/a.db");
}

TEST_F(ShardRun, AStoreInUseIsNotMerged) {
  work_.set("TENFOLD_FAKE_STEP_MS", "100");
  const pid_t running = work_.start(run("a.db", {"--slots", "1", "--shard", "1/2"}));
  // From the first attempt on its coordinator holds the store; before, the front hands the lock over.
  const auto begun = [&] { return work_.holds("a.shard-1-of-2.db", "SELECT count(*) > 0 FROM attempt"); };
  ASSERT_TRUE(work_.wait_until(begun, seconds(60)));
  const Finished merged = work_.tenfold({"merge", "b.db", "a.shard-1-of-2.db"});
  EXPECT_EQ(merged.exit_code, 6);
  EXPECT_THAT(merged.output, HasSubstr("is held by pid"));
  ::kill(running, SIGTERM);
  EXPECT_EQ(work_.wait(running).exit_code, 75);
}

TEST_F(ShardRun, NothingIsStartedThatCannotReachItsFirstCheckpoint) {
  const Finished none = complete("a.db", {"--time-limit", "10"});
  EXPECT_EQ(none.exit_code, 2) << none.output;
  EXPECT_THAT(none.output, AllOf(HasSubstr("does not reach the first checkpoint"), HasSubstr("checkpoint.every_s")));
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM attempt"), "0\n");

  // Fits, all at once, may begin within 14 s and take 16 s; then at most 44 s are left, too little for what nothing is
  // known of but checkpoint.every_s.
  work_.set("TENFOLD_FAKE_STEP_MS", "400");
  const Finished some = complete("a.db", {"--slots", "4", "--time-limit", "60", "--set", "checkpoint.every_s=46",
                                          "--set", "resources.max_array=1"});
  EXPECT_EQ(some.exit_code, 75) << some.output;
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM attempt WHERE outcome <> 'done'"), "0\n")
      << "what was started was ended as well";
  EXPECT_EQ(work_.query("a.db", "SELECT count(fit), count(trial) FROM attempt"), "4,0\n");
  EXPECT_EQ(work_.query("a.db", "SELECT count(DISTINCT kind) FROM event WHERE kind IN ('held_back', 'drain')"), "2\n");
  work_.unset("TENFOLD_FAKE_STEP_MS");
  EXPECT_EQ(complete("a.db", {"--time-limit", "1000"}).exit_code, 0);
  expect_as_undisturbed(work_, "a.db", expected());
}

}  // namespace
}  // namespace tenfold

// Checkpoints of shards that are merged: files are whole or not there, and what was lost costs computing, no results.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>

#include "experiments/file_text.h"
#include "tests/faults/fault_run.h"

namespace tenfold {
namespace {

using std::chrono::seconds;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kShard = "a.shard-1-of-2.db";

class MergedCheckpoints : public FaultRun {
 protected:
  void SetUp() override { use_fake("checkpoint: {every_s: 20, keep_every_steps: 15}\n"); }
  // Half of an experiment, stopped when fits are done and trials that start from them are not.
  void stop_in_trials() {
    work_.set("TENFOLD_FAKE_STEP_MS", "30");
    const pid_t shard = work_.start(run("a.db", {"--slots", "1", "--shard", "1/2"}));
    ASSERT_TRUE(work_.wait_until(
        [&] { return work_.holds(kShard, "SELECT count(*) > 0 FROM attempt WHERE trial IS NOT NULL"); }, seconds(60)));
    ::kill(shard, SIGUSR2);
    ASSERT_EQ(work_.wait(shard).exit_code, 75);
    work_.unset("TENFOLD_FAKE_STEP_MS");
    trained_ = work_.query(kShard,
                           "SELECT DISTINCT path FROM checkpoint c JOIN fit f ON f.id = c.fit AND f.status = 'done' "
                           "WHERE step = 40");
    ASSERT_THAT(trained_, EndsWith("-40.safetensors\n")) << "one file";
    trained_.pop_back();
    ASSERT_EQ(trained_.find('\n'), std::string::npos);
  }
  std::filesystem::path of_shard(const std::string& name) const {
    return work_.file(std::string(kShard) + ".checkpoints") / name;
  }
  std::filesystem::path merged(const std::string& name) const { return work_.file("a.db.checkpoints") / name; }
  static std::string contents(const std::filesystem::path& file) { return file_text(file).value_or(""); }
  Finished merge() const { return work_.tenfold({"merge", "a.db", kShard}); }
  std::string number(const std::string& sql) { return work_.query("a.db", "SELECT count(*) FROM " + sql); }
  void expect_the_same_results() {
    const Finished finished = complete("a.db");
    EXPECT_EQ(finished.exit_code, 0) << finished.output;
    expect_sound(work_, "a.db");
    EXPECT_EQ(results_of(work_, "a.db"), expected());
  }

  std::string trained_;  // the file of the parameters that the open trials start from
};

TEST_F(MergedCheckpoints, AHalfFileOfTheSameNameIsReplaced) {
  stop_in_trials();
  const std::string whole = contents(of_shard(trained_));
  std::filesystem::create_directories(merged(""));
  std::ofstream(merged(trained_), std::ios::binary) << whole.substr(0, whole.size() / 2);
  const Finished half = merge();
  EXPECT_EQ(half.exit_code, 1) << half.output;
  EXPECT_THAT(half.output, Not(HasSubstr("not taken over")));
  EXPECT_EQ(contents(merged(trained_)), whole);
  expect_the_same_results();
  EXPECT_EQ(number("event WHERE kind IN ('checkpoint_damaged', 'fit_reopened')"), "0\n");
}

TEST_F(MergedCheckpoints, WithoutItsFilesAShardIsMergedAndItsFitsAreComputedAgain) {
  stop_in_trials();
  std::filesystem::rename(of_shard(""), work_.file("elsewhere"));
  const Finished without = merge();
  EXPECT_EQ(without.exit_code, 1) << without.output;
  EXPECT_THAT(without.output, AllOf(HasSubstr("checkpoint " + trained_ + " is not taken over"),
                                    HasSubstr("does not exist"), HasSubstr("is computed again by the next run")));
  EXPECT_EQ(number("checkpoint"), "0\n") << "a row never names a file that is not there";
  EXPECT_NE(number("event WHERE kind = 'checkpoint_damaged'"), "0\n");
  EXPECT_NE(number("event WHERE kind = 'fit_reopened'"), "0\n");
  EXPECT_EQ(number("fit WHERE status = 'done'"), "0\n");

  // Merged once more without them, nothing is there twice.
  const std::string attempts = number("attempt"), events = number("event");
  EXPECT_EQ(merge().exit_code, 1);
  EXPECT_EQ(number("attempt"), attempts);
  EXPECT_EQ(number("event"), events);

  // Fetched after all: merged again, it has what it had.
  std::filesystem::rename(work_.file("elsewhere"), of_shard(""));
  EXPECT_EQ(merge().exit_code, 1);
  EXPECT_EQ(number("attempt"), attempts);
  EXPECT_NE(number("fit WHERE status = 'done'"), "0\n");
  EXPECT_TRUE(std::filesystem::exists(merged(trained_)));
  expect_the_same_results();
}

TEST_F(MergedCheckpoints, AShardThatWentOnIsMergedAgainAndItsAttemptsAreThereOnce) {
  work_.set("TENFOLD_FAKE_FAIL", "1");
  work_.set("TENFOLD_FAKE_FAIL_STAGE", "adapt");
  EXPECT_EQ(complete("a.db", {"--shard", "1/2"}).exit_code, 1);
  work_.unset("TENFOLD_FAKE_FAIL");
  EXPECT_EQ(merge().exit_code, 1);
  EXPECT_NE(number("attempt WHERE outcome = 'failed'"), "0\n");
  EXPECT_EQ(complete("a.db", {"--shard", "1/2"}).exit_code, 0);
  EXPECT_EQ(merge().exit_code, 0);
  const std::string attempts =
      "SELECT number, resumed_from_step, outcome, started_at, finished_at FROM attempt WHERE trial IS NOT NULL ORDER "
      "BY "
      "4, 1, 3, 5";
  EXPECT_EQ(work_.query("a.db", attempts), work_.query(kShard, attempts));
  expect_the_same_results();
}

// An earlier one that was kept must not be taken for the trained parameters.
TEST_F(MergedCheckpoints, ADamagedFileOfTrainedParametersIsNotReplacedByAnEarlierOne) {
  stop_in_trials();
  std::filesystem::resize_file(of_shard(trained_), 20);
  const Finished damaged = merge();
  EXPECT_EQ(damaged.exit_code, 1) << damaged.output;
  EXPECT_THAT(damaged.output, AllOf(HasSubstr(trained_), HasSubstr("SHA-256"), HasSubstr("computed again")));
  EXPECT_FALSE(std::filesystem::exists(merged(trained_)));
  EXPECT_NE(number("checkpoint WHERE step = 30"), "0\n");
  expect_the_same_results();
  EXPECT_NE(number("attempt WHERE fit IS NOT NULL AND resumed_from_step = 30 AND outcome = 'done'"), "0\n");
}

TEST_F(MergedCheckpoints, AKillWhileFilesAreCopiedLeavesWhatTheNextMergeMends) {
  stop_in_trials();
  for (const char* point : {"kill@rename:1", "kill@renamed:1", "kill@commit:1"}) {
    work_.set("TENFOLD_FAULT", point);
    EXPECT_EQ(merge().exit_code, 128 + SIGKILL) << point;
    work_.unset("TENFOLD_FAULT");
    expect_sound(work_, "a.db");
    EXPECT_EQ(number("checkpoint"), "0\n") << point;
  }
  EXPECT_EQ(merge().exit_code, 1);
  EXPECT_EQ(contents(merged(trained_)), contents(of_shard(trained_)));
  expect_the_same_results();
  for (const auto& entry : std::filesystem::directory_iterator(merged("")))
    EXPECT_THAT(entry.path().string(), Not(HasSubstr(".tmp."))) << "swept by the next run";
}

}  // namespace
}  // namespace tenfold

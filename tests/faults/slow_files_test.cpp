// Disks and networks that take their time over large files: nobody is taken for dead meanwhile, and nothing is lost.
#include <gmock/gmock.h>
#include <signal.h>

#include <filesystem>

#include "tests/faults/fault_run.h"

namespace tenfold {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;

class SlowFiles : public FaultRun {
 protected:
  void SetUp() override {
    use_fake("checkpoint: {every_steps: 5}\n");
    work_.set("TENFOLD_FAKE_STEP_MS", "80");
  }
  // 6 s, where 2.5 s of silence are too many.
  void be_slow_at(const std::string& point) {
    work_.set("TENFOLD_FAULT", "slow@" + point + ",once=" + struck().string());
    work_.set("TENFOLD_PEER_SILENCE_S", "2.5");
  }
  std::filesystem::path struck() const { return work_.file("struck"); }
  bool is_slow_now() const {
    return Workspace::wait_until([&] { return std::filesystem::exists(struck()); });
  }
  // A run of which a trainer dies whose checkpoint is then read for its hash, while the other computes.
  pid_t start_and_kill_a_trainer() {
    const pid_t pid = work_.start(run("a.db"));
    const char* const both =
        "SELECT count(DISTINCT a.rank) = 2 FROM checkpoint c JOIN attempt a ON a.fit = c.fit "
        "WHERE a.outcome = 'running'";
    EXPECT_TRUE(Workspace::wait_until([&] { return work_.holds("a.db", both); }));
    const std::vector<pid_t> trainers = work_.processes("tenfold-fake-trainer");
    EXPECT_FALSE(trainers.empty());
    if (!trainers.empty()) ::kill(trainers.front(), SIGKILL);
    return pid;
  }
  void expect_nobody_lost() {
    EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM event WHERE kind IN ('worker_lost', 'run_restarted')"), "0\n");
  }
  // What was under way has a checkpoint of its last step.
  void expect_drained(const Finished& drained) {
    EXPECT_EQ(drained.exit_code, 75) << drained.output;
    EXPECT_THAT(drained.output, Not(HasSubstr("Stopped at once")));
    expect_none_left(work_);
    expect_sound(work_, "a.db");
    EXPECT_EQ(work_.query("a.db",
                          "SELECT f.id FROM fit f WHERE f.status = 'stopped' AND (SELECT max(step) FROM train_step s "
                          "WHERE s.fit = f.id) IS NOT (SELECT max(step) FROM checkpoint c WHERE c.fit = f.id)"),
              "");
    EXPECT_EQ(work_.query("a.db", "SELECT count(*) > 0 FROM fit WHERE status = 'stopped'"), "1\n");
    expect_nobody_lost();
    work_.unset("TENFOLD_FAKE_STEP_MS");
    finish("a.db");
  }
};

TEST_F(SlowFiles, WorkersWaitForACheckpointThatIsReadForItsHash) {
  be_slow_at("hash:1");
  const Finished finished = work_.wait(start_and_kill_a_trainer(), seconds(200));
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  EXPECT_TRUE(std::filesystem::exists(struck()));
  expect_nobody_lost();
  expect_as_undisturbed(work_, "a.db", expected());
}

TEST_F(SlowFiles, ADrainMeanwhileReachesAll) {
  be_slow_at("hash:1");
  const pid_t pid = start_and_kill_a_trainer();
  ASSERT_TRUE(is_slow_now());
  ::kill(pid, SIGTERM);
  expect_drained(work_.wait(pid, seconds(200)));
}

// Nothing is under way yet that would have to be saved.
TEST_F(SlowFiles, WhoStopsARunThatOnlyReadsWhereToGoOnIsNotKeptWaiting) {
  const pid_t begun = work_.start(run("a.db"));
  ASSERT_TRUE(Workspace::wait_until([&] { return work_.holds("a.db", "SELECT count(*) > 0 FROM checkpoint"); }));
  ::kill(begun, SIGTERM);
  ASSERT_EQ(work_.wait(begun).exit_code, 75);
  be_slow_at("hash:1");
  const pid_t again = work_.start(run("a.db"));
  ASSERT_TRUE(is_slow_now());
  ::kill(again, SIGTERM);
  const Finished stopped = work_.wait(again);
  EXPECT_EQ(stopped.exit_code, 75) << stopped.output;
  EXPECT_THAT(stopped.output, HasSubstr("Stopped at once"));
  expect_none_left(work_);
  work_.unset("TENFOLD_FAKE_STEP_MS");
  finish("a.db");
}

TEST_F(SlowFiles, WorkersWaitForTheDataAndTheStore) {
  be_slow_at("open:1");
  finish("a.db");
  EXPECT_TRUE(std::filesystem::exists(struck()));
  expect_nobody_lost();
}

// The front's limit is for coordinators that say nothing.
TEST_F(SlowFiles, WhatADrainHasWrittenIsPublishedHoweverLongThatTakes) {
  work_.set("TENFOLD_PUBLISH", "always");
  work_.set("TENFOLD_DRAIN_S", "4");
  be_slow_at("publish:2");  // the front's own is its first
  const pid_t pid = work_.start(run("a.db"));
  ASSERT_TRUE(is_slow_now());
  ::kill(pid, SIGTERM);
  expect_drained(work_.wait(pid, seconds(200)));
}

}  // namespace
}  // namespace tenfold

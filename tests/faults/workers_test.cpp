// Worker ranks that die, or stand still and come back after somebody else was given their work.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/faults/fault_run.h"

namespace tenfold {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

class Workers : public FaultRun {
 protected:
  void SetUp() override {
    use_fake();
    work_.set("TENFOLD_FAKE_STEP_MS", "60");
  }
  bool ask(const std::string& sql) { return work_.query("a.db", sql) == "1\n"; }
  bool all_compute(std::size_t trainers) {
    return work_.wait_until_some("tenfold-fake-trainer", trainers, seconds(30)) && work_.wait_until([&] {
      return ask("SELECT count(DISTINCT a.rank) = " + std::to_string(trainers) +
                 " FROM attempt a JOIN checkpoint c ON c.fit = a.fit WHERE a.outcome = 'running'");
    });
  }

  // Never everybody, which is what -1 means to kill.
  bool strike(int rank, int signal) {
    const pid_t pid = rank_process(work_, rank);
    return pid > 0 && ::kill(pid, signal) == 0;
  }
};

TEST_F(Workers, AKilledOneCostsItsAttemptsAlone) {
  const pid_t pid = work_.start(run("a.db", {"--slots", "4"}));
  ASSERT_TRUE(all_compute(4));
  ASSERT_TRUE(strike(2, SIGKILL));
  const Finished finished = work_.wait(pid);
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  expect_none_left(work_);
  EXPECT_TRUE(ask("SELECT count(*) = 1 FROM event WHERE kind = 'worker_lost' AND detail LIKE 'worker 2 %died'"));
  EXPECT_TRUE(ask("SELECT count(DISTINCT rank) = 1 AND min(rank) = 2 FROM attempt WHERE outcome = 'failed'"));
  EXPECT_TRUE(ask("SELECT count(*) > 0 FROM attempt WHERE resumed_from_step > 0"));
  expect_as_undisturbed(work_, "a.db", expected());
}

// Its trainer goes on meanwhile: what it has computed waits in the worker's sockets, and comes when it wakes.
TEST_F(Workers, AStoppedOneIsWrittenOffAndWhatItSaysLaterIsNotTaken) {
  work_.set("TENFOLD_PEER_SILENCE_S", "4");
  const pid_t pid = work_.start(run("a.db"));
  ASSERT_TRUE(all_compute(2));
  const pid_t stopped = rank_process(work_, 2);
  ASSERT_GT(stopped, 0);
  ::kill(stopped, SIGSTOP);
  ASSERT_TRUE(work_.wait_until([&] { return ask("SELECT count(*) = 1 FROM event WHERE kind = 'worker_lost'"); }));
  const std::string at_the_loss =
      "a.rank = 2 AND (a.finished_at IS NULL OR a.finished_at >= (SELECT at FROM event WHERE kind = 'worker_lost'))";
  const std::string open = work_.query("a.db", "SELECT id FROM attempt a WHERE " + at_the_loss + " ORDER BY id");
  EXPECT_NE(open, "");
  // The other one has its fits; the two are at the same steps now.
  ASSERT_TRUE(work_.wait_until([&] {
    return ask(
        "SELECT count(*) > 0 FROM attempt WHERE rank = 1 AND fit IN (SELECT fit FROM attempt WHERE rank = 2 AND "
        "outcome = 'failed')");
  }));
  ::kill(stopped, SIGCONT);
  // It is told that it is not needed any more, or finds out.
  EXPECT_TRUE(
      work_.wait_until([&] { return ::kill(stopped, 0) != 0 || work_.processes("tenfold-fake-trainer").size() == 1; }));
  const Finished finished = work_.wait(pid);
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  expect_none_left(work_);
  // What it had under way ended there and then, with that as the reason; nobody else lost anything.
  EXPECT_EQ(work_.query("a.db", "SELECT id FROM attempt a WHERE " + at_the_loss + " ORDER BY id"), open);
  EXPECT_EQ(work_.query("a.db", "SELECT id FROM attempt WHERE outcome = 'failed' ORDER BY id"), open);
  EXPECT_EQ(work_.query("a.db", "SELECT DISTINCT reason FROM attempt WHERE outcome = 'failed'"),
            "worker 2 is written off: it was silent for 4 s\n");
  // Whatever came of it later was computed by the other one, which alone was listened to.
  EXPECT_EQ(work_.query("a.db",
                        "SELECT DISTINCT d.rank FROM attempt a JOIN attempt d ON d.outcome = 'done' AND d.fit IS a.fit "
                        "AND d.trial IS a.trial WHERE a.outcome = 'failed'"),
            "1\n");
  expect_as_undisturbed(work_, "a.db", expected());
}

TEST_F(Workers, WithoutAnyTheRunEndsAndTheSameCommandGoesOn) {
  const pid_t pid = work_.start(run("a.db"));
  ASSERT_TRUE(all_compute(2));
  for (const int rank : {1, 2}) ASSERT_TRUE(strike(rank, SIGKILL));
  const Finished finished = work_.wait(pid, seconds(20));
  EXPECT_EQ(finished.exit_code, 5);
  EXPECT_THAT(finished.output, HasSubstr("no worker is left"));
  EXPECT_THAT(finished.output, HasSubstr("run the same command again to go on"));
  expect_none_left(work_);
  expect_sound(work_, "a.db");
  EXPECT_TRUE(ask("SELECT count(*) = 2 FROM event WHERE kind = 'worker_lost'"));
  work_.unset("TENFOLD_FAKE_STEP_MS");
  finish("a.db");
  EXPECT_TRUE(ask("SELECT count(*) > 0 FROM attempt WHERE resumed_from_step > 0"));
}

}  // namespace
}  // namespace tenfold

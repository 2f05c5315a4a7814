// The processes of a run with a trainer that computes nothing real (tests/runner/fake_trainer.cpp): what the front,
// the coordinator and the workers do when things go well, and when they do not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <fstream>

#include "tests/faults/fault_run.h"

namespace tenfold {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;

class FakeRun : public FaultRun {
 protected:
  void SetUp() override { use_fake(); }
  // Trainers are there before the run is: what it has done by now is in the store.
  bool reaches(const std::string& sql) {
    return Workspace::wait_until([&] { return work_.holds("a.db", sql); }, seconds(60));
  }
  static constexpr const char* kBegun = "SELECT count(*) > 0 FROM attempt";
};

TEST_F(FakeRun, RunsToTheEndAndThenHasNothingToDo) {
  const Finished first = work_.tenfold(run("a.db"));
  EXPECT_EQ(first.exit_code, 0) << first.output;
  EXPECT_THAT(first.output, HasSubstr("6 configurations, 24 trials from 4 fits, on 2 slots (CPU); results in a.db"));
  EXPECT_THAT(first.output, HasSubstr("24 trials done"));
  EXPECT_EQ(work_.query("a.db", "SELECT status, count(*) FROM trial GROUP BY 1"), "done,24\n");
  EXPECT_EQ(work_.query("a.db", "SELECT count(*), count(DISTINCT fit) FROM train_step"), "160,4\n");
  EXPECT_EQ(work_.query("a.db", "SELECT count(*), count(DISTINCT trial) FROM ttt_step"), "960,24\n");
  EXPECT_EQ(work_.query("a.db", "SELECT count(*), count(DISTINCT trial) FROM inner_loss"), "1920,24\n");
  EXPECT_EQ(work_.query("a.db", "SELECT count(*), count(DISTINCT trial) FROM position_loss"), "960,24\n");
  EXPECT_EQ(work_.query("a.db", "SELECT count(*), count(DISTINCT fit) FROM parameter_group_step"), "160,4\n");
  EXPECT_EQ(work_.query("a.db", "SELECT count(*), count(DISTINCT trial) FROM gate"), "960,24\n");
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM attempt WHERE outcome <> 'done'"), "0\n");
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM checkpoint"), "0\n") << "nothing needs a checkpoint any more";
  EXPECT_TRUE(std::filesystem::is_empty(work_.file("a.db.checkpoints")));
  EXPECT_TRUE(work_.wait_until_none_left(seconds(5)));

  const Finished second = work_.tenfold(run("a.db"));
  EXPECT_EQ(second.exit_code, 0) << second.output;
  EXPECT_THAT(second.output, HasSubstr("nothing to do, all 24 trials are done"));
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM attempt"), "28\n");
}

TEST_F(FakeRun, AnyNumberOfSlotsGivesTheSameRows) {
  for (const std::string slots : {"1", "2", "4"}) {
    SCOPED_TRACE(slots + " slots");
    finish(slots + ".db", {"--slots", slots});
  }
  EXPECT_EQ(work_.query("1.db", "SELECT count(DISTINCT rank) FROM attempt"), "1\n");
  EXPECT_EQ(work_.query("2.db", "SELECT count(DISTINCT rank) FROM attempt"), "2\n");
}

TEST_F(FakeRun, AChangedFileRunsWhatIsNewAndSaysSo) {
  finish("a.db");
  std::string changed = kFake;
  changed.replace(changed.find("1e-2"), 4, "5e-3");
  work_.write("x.yaml", changed);
  const Finished finished = work_.tenfold(run("a.db"));
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  EXPECT_THAT(finished.output, HasSubstr("2 configurations are new, 2 of earlier versions no longer run"));
  EXPECT_THAT(finished.output, HasSubstr("16 of 24 trials done already"));
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM trial WHERE status = 'done'"), "32\n");
}

TEST_F(FakeRun, AMistakeInTheFileStartsNothing) {
  work_.write("x.yaml", std::string(kFake) + "optimiser: {}\n");
  const Finished finished = work_.tenfold(run("a.db"));
  EXPECT_EQ(finished.exit_code, 2);
  EXPECT_THAT(finished.output, HasSubstr("x.yaml:"));
  EXPECT_FALSE(std::filesystem::exists(work_.file("a.db")));
}

TEST_F(FakeRun, ASecondRunIsToldWhoHoldsTheStore) {
  work_.set("TENFOLD_FAKE_STEP_MS", "100");
  const pid_t first = work_.start(run("a.db"));
  ASSERT_TRUE(reaches(kBegun));
  const Finished second = work_.tenfold(run("a.db"));
  EXPECT_EQ(second.exit_code, 6) << second.output;
  EXPECT_THAT(second.output, HasSubstr("a.db"));
  ::kill(first, SIGTERM);
  EXPECT_EQ(work_.wait(first).exit_code, 75);
}

struct Drain {
  int signal;
  int exit_code;
};
class DrainedRun : public FakeRun, public testing::WithParamInterface<Drain> {};

TEST_P(DrainedRun, StopsAtAStepAndGoesOnFromThere) {
  work_.set("TENFOLD_FAKE_STEP_MS", "100");
  work_.set("TENFOLD_FAKE_EVERY", "1000");  // only the drain makes checkpoints
  const pid_t pid = work_.start(run("a.db"));
  ASSERT_TRUE(reaches("SELECT count(*) > 0 FROM train_step"));
  ::kill(pid, GetParam().signal);
  const Finished drained = work_.wait(pid);
  EXPECT_EQ(drained.exit_code, GetParam().exit_code) << drained.output;
  EXPECT_THAT(drained.output, HasSubstr("run the same command again to go on"));
  EXPECT_TRUE(work_.wait_until_none_left(seconds(5)));
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) > 0 FROM attempt WHERE outcome = 'stopped'"), "1\n");
  EXPECT_EQ(work_.query("a.db", "SELECT detail FROM event WHERE kind = 'drain'"),
            std::string("asked by SIG") + sigabbrev_np(GetParam().signal) + " to stop at the next step\n");

  work_.unset("TENFOLD_FAKE_STEP_MS");
  finish("a.db");
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) > 0 FROM attempt WHERE resumed_from_step > 0"), "1\n");
}
INSTANTIATE_TEST_SUITE_P(Signals, DrainedRun,
                         testing::Values(Drain{SIGINT, 130}, Drain{SIGTERM, 75}, Drain{SIGHUP, 75},
                                         Drain{SIGUSR2, 75}));

TEST_F(FakeRun, WhatIsDrainedBeforeItsFirstStepBeginsAnew) {
  work_.set("TENFOLD_FAKE_BEFORE_MS", "1000");
  const pid_t pid = work_.start(run("a.db"));
  ASSERT_TRUE(reaches("SELECT count(*) > 0 FROM evaluation WHERE phase = 'before'"));
  ::kill(pid, SIGINT);
  EXPECT_EQ(work_.wait(pid).exit_code, 130);
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) > 0 FROM attempt WHERE trial > 0 AND outcome = 'stopped'"), "1\n");
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM ttt_step"), "0\n");
  work_.unset("TENFOLD_FAKE_BEFORE_MS");
  finish("a.db");
}

TEST_F(FakeRun, ASecondCtrlCStopsAtOnceAndLosesNothingCommitted) {
  const std::string struck = work_.file("struck").string();
  work_.set("TENFOLD_FAULT", "hang@step:20,once=" + struck);  // a trainer that will not answer the drain
  const pid_t pid = work_.start(run("a.db"));
  ASSERT_TRUE(Workspace::wait_until([&] { return std::filesystem::exists(struck); }, seconds(60)));
  ::kill(pid, SIGINT);
  ASSERT_TRUE(reaches("SELECT count(*) > 0 FROM event WHERE kind = 'drain'"));
  ::kill(pid, SIGINT);
  const Finished stopped = work_.wait(pid);
  EXPECT_EQ(stopped.exit_code, 130) << stopped.output;
  EXPECT_THAT(stopped.output, HasSubstr("Stopped at once"));
  EXPECT_TRUE(work_.wait_until_none_left(seconds(5)));
  work_.unset("TENFOLD_FAULT");
  finish("a.db");
}

TEST_F(FakeRun, AFailingTrialIsTriedThreeTimesAloneAndTheRestGoesOn) {
  work_.set("TENFOLD_FAKE_FAIL", "2");
  work_.set("TENFOLD_FAKE_FAIL_STAGE", "adapt");
  const Finished finished = work_.tenfold(run("a.db"));
  EXPECT_EQ(finished.exit_code, 1) << finished.output;
  EXPECT_THAT(finished.output, HasSubstr("6 of 24 trials failed"));
  EXPECT_EQ(
      work_.query("a.db", "SELECT status, count(*), min(fold), max(fold) FROM trial WHERE status <> 'done' GROUP BY 1"),
      "failed,6,2,2\n");
  // At most one attempt in an array of several, which counts against nobody, and three alone.
  EXPECT_EQ(work_.query("a.db",
                        "SELECT min(n) >= 3, max(n) <= 4 FROM (SELECT count(*) n FROM attempt a JOIN trial t ON t.id = "
                        "a.trial WHERE t.fold = 2 GROUP BY a.trial)"),
            "1,1\n");
  EXPECT_EQ(work_.query("a.db", "SELECT DISTINCT reason FROM attempt WHERE outcome = 'failed'"), "fails on purpose\n");

  // Whoever has removed the cause starts it again.
  work_.unset("TENFOLD_FAKE_FAIL");
  finish("a.db");
}

TEST_F(FakeRun, AFailedFitFailsItsTrialsAtOnceWhenAnotherTryWouldEndTheSame) {
  work_.set("TENFOLD_FAKE_FAIL", "1");
  work_.set("TENFOLD_FAKE_FAIL_STAGE", "fit");
  work_.set("TENFOLD_FAKE_NO_RETRY", "1");
  const Finished finished = work_.tenfold(run("a.db"));
  EXPECT_EQ(finished.exit_code, 1) << finished.output;
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM attempt WHERE fit IS NOT NULL AND outcome = 'failed'"), "1\n");
  EXPECT_EQ(work_.query("a.db", "SELECT DISTINCT reason FROM attempt WHERE trial IS NOT NULL AND outcome = 'failed'"),
            "its fit failed: fails on purpose\n");
  EXPECT_EQ(work_.query("a.db", "SELECT status, count(*) FROM trial GROUP BY 1"), "done,18\nfailed,6\n");
}

TEST_F(FakeRun, ACrashingTrialDoesNotFailItsNeighbours) {
  work_.set("TENFOLD_FAULT", "segv@step:12,only=7,stage=adapt");
  const Finished finished = work_.tenfold(run("a.db"));
  EXPECT_EQ(finished.exit_code, 1) << finished.output;
  EXPECT_EQ(work_.query("a.db", "SELECT id, status FROM trial WHERE status <> 'done'"), "7,failed\n");
  EXPECT_THAT(work_.query("a.db", "SELECT reason FROM attempt WHERE trial = 7 ORDER BY id DESC LIMIT 1"),
              HasSubstr("SIGSEGV"));
  EXPECT_THAT(finished.output, HasSubstr("1 of 24 trials failed"));
}

TEST_F(FakeRun, AFrozenTrainerIsFoundKilledAndItsArrayRetried) {
  work_.set("TENFOLD_TRAINER_SILENCE_S", "2");
  work_.set("TENFOLD_FAULT", "stop@step:12,stage=adapt,once=" + work_.file("struck").string());
  const Finished finished = work_.tenfold(run("a.db"));
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  EXPECT_TRUE(std::filesystem::exists(work_.file("struck")));
  EXPECT_THAT(work_.query("a.db", "SELECT DISTINCT reason FROM attempt WHERE outcome = 'failed'"), HasSubstr("hung"));
  expect_as_undisturbed(work_, "a.db", expected());
  EXPECT_TRUE(work_.wait_until_none_left(seconds(5)));
}

TEST_F(FakeRun, ATrainerThatCannotStartIsExplained) {
  work_.set("TENFOLD_FAKE_CANNOT_START", "1");
  const Finished finished = work_.tenfold(run("a.db"));
  EXPECT_EQ(finished.exit_code, 5) << finished.output;
  EXPECT_THAT(finished.output, HasSubstr("libtorch_cpu.so: cannot open shared object file"));
  EXPECT_TRUE(work_.wait_until_none_left(seconds(5)));
}

TEST_F(FakeRun, ADamagedCheckpointFallsBackToTheOneBefore) {
  work_.set("TENFOLD_FAKE_STEP_MS", "100");
  const pid_t pid = work_.start(run("a.db", {"--slots", "1"}));
  ASSERT_TRUE(reaches("SELECT count(DISTINCT step) > 1 FROM checkpoint"));
  ::kill(pid, SIGTERM);
  ASSERT_EQ(work_.wait(pid).exit_code, 75);
  const std::string newest = work_.query("a.db", "SELECT path FROM checkpoint ORDER BY step DESC LIMIT 1");
  ASSERT_FALSE(newest.empty());
  std::ofstream(work_.file("a.db.checkpoints") / newest.substr(0, newest.find('\n')), std::ios::app) << "damaged";
  work_.unset("TENFOLD_FAKE_STEP_MS");
  finish("a.db", {"--slots", "1"});
  EXPECT_THAT(work_.query("a.db", "SELECT detail FROM event WHERE kind = 'checkpoint_damaged'"), HasSubstr("SHA-256"));
}

// Everything at once, at 25 random instants, until the run comes through.
TEST_F(FakeRun, KillingEverythingAtRandomInstantsChangesNoRow) {
  work_.set("TENFOLD_FAKE_STEP_MS", "40");
  const double latest_s = calm_s() + 0.8;  // a start, and some steps
  int kills = 0;
  for (; kills < 25; ++kills) {
    const pid_t pid = work_.start(run("a.db"));
    sleep_s(random_s(0.2, latest_s));
    for (const pid_t victim : work_.processes()) ::kill(victim, SIGKILL);
    const Finished finished = work_.wait(pid);
    ASSERT_TRUE(work_.wait_until_none_left(seconds(5)));
    if (finished.exit_code == 0) break;
    EXPECT_EQ(finished.exit_code, 128 + SIGKILL) << finished.output;
  }
  finish("a.db");
  EXPECT_GT(kills, 1);
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) > 0 FROM attempt WHERE resumed_from_step > 0"), "1\n");
}

TEST_F(FakeRun, KillingTrainersAloneCostsAttemptsOnly) {
  work_.set("TENFOLD_FAKE_STEP_MS", "20");
  const pid_t pid = work_.start(run("a.db"));
  ASSERT_TRUE(reaches(kBegun));
  for (int i = 0; i < 3; ++i) {
    sleep_s(0.5);
    for (const pid_t victim : work_.processes("tenfold-fake-trainer")) ::kill(victim, SIGKILL);
  }
  const Finished finished = work_.wait(pid);
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  EXPECT_THAT(work_.query("a.db", "SELECT DISTINCT reason FROM attempt WHERE outcome = 'failed'"),
              HasSubstr("SIGKILL"));
  expect_as_undisturbed(work_, "a.db", expected());
}

// Whichever process of the run dies: nothing stays behind for longer than 5 s, and the next run goes on.
class OneProcessDies : public FakeRun, public testing::WithParamInterface<const char*> {};

TEST_P(OneProcessDies, NothingStaysBehind) {
  work_.set("TENFOLD_FAKE_STEP_MS", "60");
  const pid_t pid = work_.start(run("a.db"));
  ASSERT_TRUE(reaches(kBegun));
  const std::string who = GetParam();
  pid_t victim = pid;
  if (who == "mpirun") victim = work_.processes("mpirun").front();
  if (who == "coordinator") victim = rank_process(work_, 0);
  ASSERT_GT(victim, 0);
  ::kill(victim, SIGKILL);
  EXPECT_TRUE(work_.wait_until_none_left(seconds(5)) || (::kill(pid, 0) == 0 && work_.processes().empty()));
  const Finished finished = work_.wait(pid);
  if (who != "front") {
    EXPECT_EQ(finished.exit_code, 5) << finished.output;
    EXPECT_THAT(finished.output, HasSubstr("run the same command again to go on"));
  }
  work_.unset("TENFOLD_FAKE_STEP_MS");
  finish("a.db");
}
INSTANTIATE_TEST_SUITE_P(Victims, OneProcessDies, testing::Values("front", "mpirun", "coordinator"),
                         [](const auto& info) { return std::string(info.param); });

TEST_F(FakeRun, ADeadWorkerIsWrittenOffAndTheOthersGoOn) {
  work_.set("TENFOLD_FAKE_STEP_MS", "50");
  const pid_t pid = work_.start(run("a.db", {"--slots", "3"}));
  ASSERT_TRUE(reaches("SELECT count(*) > 0 FROM attempt WHERE rank = 2"));
  const pid_t worker = rank_process(work_, 2);
  ASSERT_GT(worker, 0);
  ::kill(worker, SIGKILL);
  const Finished finished = work_.wait(pid);
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM event WHERE kind = 'worker_lost'"), "1\n");
  expect_as_undisturbed(work_, "a.db", expected());
  EXPECT_TRUE(work_.wait_until_none_left(seconds(8)));
}

}  // namespace
}  // namespace tenfold

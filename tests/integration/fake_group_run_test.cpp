// Trials over several slots, with a trainer that computes nothing real: how groups of different sizes share the slots,
// meet, and come back after any of them fails (tests/runner/fake_group.h).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <random>
#include <thread>

#include "tests/faults/oracle.h"
#include "tests/integration/run_process.h"

namespace tenfold {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

// 3 sizes x 2 folds: 6 fits and 12 trials. Trainings of one size are one array.
constexpr const char* kExperiment = R"(name: groups
dataset: {kind: synthetic, samples: 120, features: 8, classes: 3}
folds: {kind: stratified, k: 2}
model: {kind: mlp, hidden: [16]}
train: {epochs: 4, batch_size: 16}
ttt: {method: entropy_diversity, steps: 5, batch_size: 32}
metrics: [accuracy]
sweep:
  resources.ranks_per_trial: [1, 2, 4]
  ttt.lr: [1e-4, 1e-3]
)";

class GroupRun : public testing::Test {
 protected:
  void SetUp() override {
    work_.use_fake_trainer();
    work_.write("x.yaml", kExperiment);
  }
  std::vector<std::string> run(const std::string& db, int slots = 4) {
    return {"run", "x.yaml", "--db", db, "--slots", std::to_string(slots), "--device", "cpu"};
  }
  // Of an undisturbed run, the same for every test.
  const std::string& expected() {
    static std::string expected_;
    if (expected_.empty()) {
      const Finished finished = work_.tenfold(run("calm.db"));
      EXPECT_EQ(finished.exit_code, 0) << finished.output;
      expected_ = results_of(work_, "calm.db");
    }
    return expected_;
  }
  // Until a group of four computes.
  bool wait_for_large_group(const std::string& db) {
    const char* const running = "SELECT count(*) > 0 FROM attempt WHERE outcome = 'running' AND device LIKE 'cpu x4%'";
    return Workspace::wait_until([&] { return work_.holds(db, running); }, seconds(60));
  }

  Workspace work_;
};

TEST_F(GroupRun, SizesShareTheSlotsAndAnyNumberOfSlotsGivesTheSameRows) {
  const Finished finished = work_.tenfold(run("a.db"));
  ASSERT_EQ(finished.exit_code, 0) << finished.output;
  const std::string results = results_of(work_, "a.db");
  expect_as_undisturbed(work_, "a.db", results);
  EXPECT_EQ(work_.query("a.db", "SELECT status, count(*) FROM trial GROUP BY 1"), "done,12\n");
  EXPECT_EQ(work_.query("a.db", "SELECT count(*), count(DISTINCT fit) FROM train_step"), "240,6\n");
  EXPECT_EQ(work_.query("a.db", "SELECT count(*), count(DISTINCT trial) FROM ttt_step"), "480,12\n");
  EXPECT_EQ(work_.query("a.db", "SELECT DISTINCT device FROM attempt WHERE device LIKE 'cpu x4%'"),
            "\"cpu x4, ranks 1-4\"\n");
  for (const char* size : {"cpu", "cpu x2%", "cpu x4%"})
    EXPECT_EQ(work_.query("a.db", std::string("SELECT count(*) FROM attempt WHERE device LIKE '") + size + "'"), "6\n");
  expect_none_left(work_);

  const Finished more = work_.tenfold(run("b.db", 6));
  ASSERT_EQ(more.exit_code, 0) << more.output;
  EXPECT_EQ(results_of(work_, "b.db"), results);
}

TEST_F(GroupRun, ATrialThatNeedsMoreSlotsThanThereAreIsRefusedWithItsPlaceInTheFile) {
  const Finished finished = work_.tenfold(run("a.db", 3));
  EXPECT_EQ(finished.exit_code, 2) << finished.output;
  EXPECT_THAT(finished.output, HasSubstr("x.yaml:9:"));
  EXPECT_THAT(finished.output,
              HasSubstr("resources.ranks_per_trial: a trial needs 4 slots at once, and this run has 3"));
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM attempt"), "0\n");
  // What is done needs no slots any more.
  ASSERT_EQ(work_.tenfold(run("a.db", 4)).exit_code, 0);
  EXPECT_EQ(work_.tenfold(run("a.db", 3)).exit_code, 0);
}

struct Fault {
  const char* name;
  const char* what;
  const char* reason;
};
class GroupFault : public GroupRun, public testing::WithParamInterface<Fault> {};

TEST_P(GroupFault, TheGroupGetsNewTrainersAndItsArrayGoesOn) {
  expected();
  work_.set("TENFOLD_TRAINER_SILENCE_S", "2");
  work_.set("TENFOLD_FAULT", std::string(GetParam().what) + ",once=" + work_.file("struck").string());
  const Finished finished = work_.tenfold(run("a.db"));
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  EXPECT_TRUE(std::filesystem::exists(work_.file("struck")));
  EXPECT_THAT(work_.query("a.db", "SELECT DISTINCT reason FROM attempt WHERE outcome = 'failed'"),
              HasSubstr(GetParam().reason));
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) > 0 FROM attempt WHERE resumed_from_step > 0"), "1\n");
  expect_as_undisturbed(work_, "a.db", expected());
  expect_none_left(work_);
}
INSTANTIATE_TEST_SUITE_P(Faults, GroupFault,
                         testing::Values(Fault{"LeaderKilled", "kill@group0:12", "member 0 of its"},
                                         Fault{"MemberKilled", "kill@group3:12",
                                               "member 3 of its 4 trainers (rank 4): the trainer was"},
                                         Fault{"MemberCrashesWhileAdapting", "segv@group1:12,stage=adapt", "SIGSEGV"},
                                         Fault{"MemberFrozen", "stop@group2:12", "hung"},
                                         Fault{"MemberGivesUp", "throw@group1:12", "member 1 of its"},
                                         Fault{"MemberEndsAsIfAllWereWell", "exit0@group1:12", "member 1 of its"}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_F(GroupRun, AGroupThatDoesNotMeetIsGivenUpAndTheOthersGoOn) {
  work_.write("x.yaml", std::string(kExperiment) + "retries: 0\n");
  work_.set("TENFOLD_FAKE_NO_MEETING", "1");
  work_.set("TENFOLD_GROUP_MEETING_S", "1");
  const Finished finished = work_.tenfold(run("a.db"));
  EXPECT_EQ(finished.exit_code, 1) << finished.output;
  EXPECT_EQ(work_.query("a.db", "SELECT status, count(*) FROM trial GROUP BY 1"), "done,4\nfailed,8\n");
  EXPECT_THAT(work_.query("a.db", "SELECT DISTINCT reason FROM attempt WHERE outcome = 'failed' AND fit IS NOT NULL"),
              HasSubstr("trainers did not meet within 1 s: its leader (rank 1) did not say where"));
  expect_sound(work_, "a.db");
  expect_none_left(work_);
}

TEST_F(GroupRun, WithALostWorkerSmallerGroupsGoOnAndWhatIsTooLargeFailsWithTheReason) {
  expected();
  for (const int slots : {5, 4}) {
    const std::string db = "slots" + std::to_string(slots) + ".db";
    work_.set("TENFOLD_FAKE_STEP_MS", "60");
    const pid_t pid = work_.start(run(db, slots));
    ASSERT_TRUE(wait_for_large_group(db));
    const pid_t third = rank_process(work_, 3);
    ASSERT_GT(third, 0) << "to kill -1 is to kill everybody";
    ::kill(third, SIGKILL);
    work_.unset("TENFOLD_FAKE_STEP_MS");
    const Finished finished = work_.wait(pid);
    EXPECT_EQ(work_.query(db, "SELECT count(*) FROM event WHERE kind = 'worker_lost'"), "1\n");
    if (slots == 5) {
      EXPECT_EQ(finished.exit_code, 0) << finished.output;
      expect_as_undisturbed(work_, db, expected());
    } else {
      EXPECT_EQ(finished.exit_code, 1) << finished.output;
      EXPECT_EQ(work_.query(db, "SELECT status, count(*) FROM trial GROUP BY 1"), "done,8\nfailed,4\n");
      EXPECT_THAT(work_.query(db, "SELECT reason FROM attempt WHERE fit IS NOT NULL ORDER BY id DESC"),
                  HasSubstr("it needs 4 slots at once (resources.ranks_per_trial), and 3 are left: worker 3"));
      expect_sound(work_, db);
      EXPECT_EQ(work_.tenfold(run(db)).exit_code, 0) << "with all workers again";
      expect_as_undisturbed(work_, db, expected());
    }
    expect_none_left(work_);
  }
}

TEST_F(GroupRun, DrainedInTheMiddleItGoesOnFromThere) {
  expected();
  work_.set("TENFOLD_FAKE_STEP_MS", "60");
  work_.set("TENFOLD_FAKE_EVERY", "1000");  // only the drain makes checkpoints
  const pid_t pid = work_.start(run("a.db"));
  const char* const computing =
      "SELECT count(*) > 0 FROM attempt a JOIN train_step s ON s.fit = a.fit WHERE a.outcome = 'running' AND a.device "
      "LIKE 'cpu x4%'";
  ASSERT_TRUE(Workspace::wait_until([&] { return work_.holds("a.db", computing); }, seconds(60)));
  ::kill(pid, SIGTERM);
  const Finished drained = work_.wait(pid);
  EXPECT_EQ(drained.exit_code, 75) << drained.output;
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) > 0 FROM attempt WHERE outcome = 'stopped' AND device LIKE 'cpu x4%'"),
            "1\n");
  expect_none_left(work_);
  work_.unset("TENFOLD_FAKE_STEP_MS");
  const Finished again = work_.tenfold(run("a.db"));
  EXPECT_EQ(again.exit_code, 0) << again.output;
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) > 0 FROM attempt WHERE resumed_from_step > 0"), "1\n");
  expect_as_undisturbed(work_, "a.db", expected());
}

TEST_F(GroupRun, KillingTrainersAtRandomInstantsChangesNoRow) {
  expected();
  work_.set("TENFOLD_FAKE_STEP_MS", "15");
  std::mt19937 random(5);
  const pid_t pid = work_.start(run("a.db"));
  ASSERT_TRUE(work_.wait_until_some("tenfold-fake-trainer", 4, seconds(30)));
  for (int i = 0; i < 5; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(std::uniform_int_distribution(200, 600)(random)));
    const std::vector<pid_t> trainers = work_.processes("tenfold-fake-trainer");
    if (!trainers.empty()) ::kill(trainers[random() % trainers.size()], SIGKILL);
  }
  const Finished finished = work_.wait(pid, seconds(120));
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  expect_as_undisturbed(work_, "a.db", expected());
  expect_none_left(work_);
}

}  // namespace
}  // namespace tenfold

// Worker ranks that die, or stand still and come back after somebody else was given their work.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <functional>
#include <thread>

#include "tests/faults/oracle.h"

namespace tenfold {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

constexpr const char* kExperiment = R"(name: workers
dataset: {kind: synthetic, samples: 240, features: 8, classes: 3}
folds: {kind: stratified, k: 4}
model: {kind: mlp, hidden: [16]}
train: {epochs: 4, batch_size: 16}
ttt: {method: entropy_diversity, steps: 5, batch_size: 32}
metrics: [accuracy]
sweep: {ttt.lr: [1e-4, 1e-3, 1e-2]}
)";

class Workers : public testing::Test {
 protected:
  void SetUp() override {
    work_.use_fake_trainer();
    work_.write("x.yaml", kExperiment);
    if (expected_.empty()) {
      ASSERT_EQ(work_.tenfold(run("calm.db")).exit_code, 0);
      expected_ = results_of(work_, "calm.db");
    }
    work_.set("TENFOLD_FAKE_STEP_MS", "60");
  }
  std::vector<std::string> run(const std::string& db, int slots = 2) {
    return {"run", "x.yaml", "--db", db, "--slots", std::to_string(slots), "--device", "cpu"};
  }
  bool wait_until(const std::function<bool()>& condition, seconds limit = seconds(30)) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return true;
  }
  bool ask(const std::string& sql) { return work_.query("a.db", sql) == "1\n"; }
  bool all_compute(std::size_t trainers) {
    return work_.wait_until_some("tenfold-fake-trainer", trainers, seconds(30)) && wait_until([&] {
             return ask("SELECT count(DISTINCT a.rank) = " + std::to_string(trainers) +
                        " FROM attempt a JOIN checkpoint c ON c.fit = a.fit WHERE a.outcome = 'running'");
           });
  }

  // Never everybody, which is what -1 means to kill.
  bool strike(int rank, int signal) {
    const pid_t pid = rank_process(work_, rank);
    return pid > 0 && ::kill(pid, signal) == 0;
  }

  Workspace work_;
  static inline std::string expected_;  // of an undisturbed run
};

TEST_F(Workers, AKilledOneCostsItsAttemptsAlone) {
  const pid_t pid = work_.start(run("a.db", 4));
  ASSERT_TRUE(all_compute(4));
  ASSERT_TRUE(strike(2, SIGKILL));
  const Finished finished = work_.wait(pid);
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  expect_none_left(work_);
  EXPECT_TRUE(ask("SELECT count(*) = 1 FROM event WHERE kind = 'worker_lost' AND detail LIKE 'worker 2 %died'"));
  EXPECT_TRUE(ask("SELECT count(DISTINCT rank) = 1 AND min(rank) = 2 FROM attempt WHERE outcome = 'failed'"));
  EXPECT_TRUE(ask("SELECT count(*) > 0 FROM attempt WHERE resumed_from_step > 0"));
  expect_as_undisturbed(work_, "a.db", expected_);
}

// Its trainer goes on meanwhile: what it has computed waits in the worker's sockets, and comes when it wakes.
TEST_F(Workers, AStoppedOneIsWrittenOffAndWhatItSaysLaterIsNotTaken) {
  work_.set("TENFOLD_PEER_SILENCE_S", "4");
  const pid_t pid = work_.start(run("a.db"));
  ASSERT_TRUE(all_compute(2));
  const pid_t stopped = rank_process(work_, 2);
  ASSERT_GT(stopped, 0);
  ::kill(stopped, SIGSTOP);
  ASSERT_TRUE(wait_until([&] { return ask("SELECT count(*) = 1 FROM event WHERE kind = 'worker_lost'"); }));
  // The other one has its fits; the two are at the same steps now.
  ASSERT_TRUE(wait_until([&] {
    return ask(
        "SELECT count(*) > 0 FROM attempt WHERE rank = 1 AND fit IN (SELECT fit FROM attempt WHERE rank = 2 AND "
        "outcome = 'failed')");
  }));
  ::kill(stopped, SIGCONT);
  // It is told that it is not needed any more, or finds out.
  EXPECT_TRUE(
      wait_until([&] { return ::kill(stopped, 0) != 0 || work_.processes("tenfold-fake-trainer").size() == 1; }));
  const Finished finished = work_.wait(pid);
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  expect_none_left(work_);
  EXPECT_TRUE(
      ask("SELECT count(*) = 0 FROM attempt WHERE rank = 2 AND outcome = 'done' AND started_at > (SELECT at "
          "FROM event WHERE kind = 'worker_lost')"));
  EXPECT_TRUE(ask("SELECT count(*) > 0 FROM attempt WHERE outcome = 'failed' AND reason LIKE '%silent for 4 s'"));
  expect_as_undisturbed(work_, "a.db", expected_);
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
  const Finished again = work_.tenfold(run("a.db"));
  EXPECT_EQ(again.exit_code, 0) << again.output;
  EXPECT_TRUE(ask("SELECT count(*) > 0 FROM attempt WHERE resumed_from_step > 0"));
  expect_as_undisturbed(work_, "a.db", expected_);
}

}  // namespace
}  // namespace tenfold

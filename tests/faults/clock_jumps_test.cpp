// The time of day is for people to read; whatever is waited for is measured by a clock that only advances.
#include <gmock/gmock.h>
#include <signal.h>

#include <cstdlib>
#include <filesystem>

#include "tests/faults/fault_run.h"

namespace tenfold {
namespace {

std::string listed(const std::vector<pid_t>& pids) {
  std::string text;
  for (const pid_t pid : pids) text += (text.empty() ? "" : ",") + std::to_string(pid);
  return text;
}

class ClockJumps : public FaultRun {
 protected:
  void SetUp() override {
    use(kTables);
    const auto clock =
        std::filesystem::path(std::getenv("TENFOLD_BIN_DIR")).parent_path() / "tests" / "libjumping_clock.so";
    ASSERT_TRUE(std::filesystem::exists(clock)) << clock;
    clock_ = clock.string();
  }
  std::string clock_;
};

TEST_F(ClockJumps, AndTheRunGoesOn) {
  expected();
  work_.set("LD_PRELOAD", clock_);
  const Finished finished = complete("a.db");
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  EXPECT_EQ(work_.query("a.db",
                        "SELECT count(*) > 1 FROM (SELECT substr(started_at, 1, 10) FROM attempt UNION "
                        "SELECT substr(finished_at, 1, 10) FROM attempt UNION SELECT substr(created_at, 1, 10) FROM "
                        "experiment_revision)"),
            "1\n")
      << "the clock did not jump";
  // Nobody was taken for dead or hung, and no checkpoint of one moment took the name of another.
  EXPECT_EQ(work_.query("a.db", "SELECT kind, detail FROM event"), "");
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM attempt WHERE outcome <> 'done'"), "0\n");
  expect_as_undisturbed(work_, "a.db", expected());
}

TEST_F(ClockJumps, AndAStoppedRunGoesOnFromItsCheckpoints) {
  expected();
  work_.set("LD_PRELOAD", clock_);
  const auto over = [&] { return work_.holds("a.db", "SELECT count(*) > 0 AND sum(status <> 'done') = 0 FROM trial"); };
  for (int i = 0; i < 3 && !over(); ++i) {  // a fast machine may be through before
    const pid_t front = work_.start(run("a.db"));
    ASSERT_TRUE(work_.wait_until([&] {
      return over() || work_.holds("a.db", "SELECT count(*) > 0 FROM attempt WHERE outcome = 'running' AND pid IN (" +
                                               listed(work_.processes("tenfold-trainer")) + ")");
    }));
    sleep_s(random_s(0, 0.1));
    for (const pid_t pid : work_.processes()) ::kill(pid, SIGKILL);
    work_.wait(front);
    expect_none_left(work_);
    expect_sound(work_, "a.db");
  }
  finish("a.db");
  EXPECT_NE(work_.query("a.db", "SELECT count(*) FROM event WHERE kind = 'run_lost'"), "0\n");
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM event WHERE kind = 'checkpoint_damaged'"), "0\n");
}

}  // namespace
}  // namespace tenfold

// A run that goes on elsewhere, or with less: other slots, another folder and host, no shared memory, no GPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>

#include "tests/faults/fault_run.h"

namespace tenfold {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

// `tenfold` in namespaces of its own, after a line of shell that changes what it sees. False: not permitted here.
bool enter(Workspace& work, const std::string& namespaces, const std::string& preparation) {
  if (std::system(("unshare " + namespaces + " true 2>/dev/null").c_str()) != 0) return false;
  work.set("PLACES_PREPARATION", preparation);
  work.start_through({"unshare", namespaces, "sh", "-c", "eval \"$PLACES_PREPARATION\" && exec \"$@\"", "sh"});
  return true;
}

class Places : public FaultRun {
 protected:
  void SetUp() override { use_fake(); }
  // Stopped when each of `slots` has a checkpoint on its way.
  void run_half(int slots) {
    work_.set("TENFOLD_FAKE_STEP_MS", "60");
    const std::string count = std::to_string(slots);
    const pid_t pid = work_.start(run("a.db", {"--slots", count}));
    // The store is there before they are.
    ASSERT_TRUE(work_.wait_until_some("tenfold-fake-trainer", 1, seconds(30)));
    ASSERT_TRUE(work_.wait_until(
        [&] { return work_.query("a.db", "SELECT count(DISTINCT fit) >= " + count + " FROM checkpoint") == "1\n"; }));
    ::kill(pid, SIGTERM);
    ASSERT_EQ(work_.wait(pid, seconds(20)).exit_code, 75);
    work_.unset("TENFOLD_FAKE_STEP_MS");
  }
  void expect_goes_on(const std::string& db = "a.db", std::vector<std::string> more = {}) {
    finish(db, std::move(more));
    EXPECT_EQ(work_.query(db, "SELECT count(*) > 0 FROM attempt WHERE resumed_from_step > 0"), "1\n");
  }
};

TEST_F(Places, GoesOnWithFewerSlots) {
  run_half(3);
  expect_goes_on("a.db", {"--slots", "1"});
}

TEST_F(Places, GoesOnWithMoreSlots) {
  run_half(1);
  expect_goes_on("a.db", {"--slots", "4"});
}

TEST_F(Places, GoesOnOnAnotherHostInAnotherFolder) {
  run_half(2);
  const std::filesystem::path moved = work_.file("moved");
  std::filesystem::create_directories(moved);
  for (const char* name : {"a.db", "a.db-wal", "a.db-shm", "a.db.checkpoints"})
    if (std::filesystem::exists(work_.file(name))) std::filesystem::rename(work_.file(name), moved / name);
  if (!enter(work_, "--uts", "hostname elsewhere")) GTEST_SKIP() << "namespaces are not permitted here (unshare --uts)";
  expect_goes_on("moved/a.db");
  EXPECT_EQ(work_.query("moved/a.db",
                        "SELECT count(*) > 0 FROM attempt WHERE host = 'elsewhere' AND "
                        "resumed_from_step > 0"),
            "1\n");
}

TEST_F(Places, GoesOnWhereSharedMemoryIsFull) {
  run_half(2);
  const std::string fill = "mount -t tmpfs -o size=256k none /dev/shm && head -c 240k /dev/zero > /dev/shm/full";
  if (!enter(work_, "--mount", fill)) GTEST_SKIP() << "namespaces are not permitted here (unshare --mount)";
  expect_goes_on();
}

TEST_F(Places, AGpuThatIsNotThereIsNamedAndNothingIsLost) {
  run_half(2);
  work_.set("CUDA_VISIBLE_DEVICES", "-1");
  const Finished finished = complete("a.db", {"--device", "cuda"});
  EXPECT_EQ(finished.exit_code, 4) << finished.output;
  EXPECT_THAT(finished.output, HasSubstr("no NVIDIA GPU is visible here"));
  EXPECT_THAT(finished.output, HasSubstr("--device cpu"));
  expect_sound(work_, "a.db");
  expect_goes_on("a.db", {"--device", "auto"});
}

}  // namespace
}  // namespace tenfold

// Files that cannot be written: a full disk, a read-only one, permissions taken away. What was committed stays, the
// user reads which file and what to do, and the same command goes on when it is mended.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <optional>
#include <thread>

#include "tests/faults/oracle.h"
#include "tests/faults/small_disk.h"
#include "tests/missing.h"

namespace tenfold {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr std::size_t kDiskBytes = 6 << 20;

class Disk : public testing::Test {
 protected:
  std::vector<std::string> run(const std::string& db) {
    const char* source = std::getenv("TENFOLD_SOURCE_DIR");
    return {"run",      std::string(source) + "/experiments/smoke.yaml",
            "--db",     db,
            "--slots",  "1",
            "--device", "cpu",
            "--set",    "checkpoint.every_steps=3",
            "--set",    "ttt.steps=40"};
  }
  const std::string& expected() {
    if (!expected_.empty()) return expected_;
    const Finished finished = work_.tenfold(run("calm.db"));
    EXPECT_EQ(finished.exit_code, 0) << finished.output;
    return expected_ = results_of(work_, "calm.db");
  }
  // A run whose trainer sleeps at step 20 of a stage: the instant at which a test does its harm.
  void start_and_sleep(const std::string& db, const std::string& stage) {
    expected();
    const std::filesystem::path struck = work_.file("struck");
    work_.set("TENFOLD_FAULT", "stop@step:20,stage=" + stage + ",once=" + struck.string());
    run_ = work_.start(run(db));
    ASSERT_TRUE(work_.wait_until_stopped(struck)) << work_.wait(run_, milliseconds(1)).output;
  }
  void wait_for_the_drain(const std::string& db) {
    const char* const told = "SELECT count(*) > 0 FROM event WHERE kind = 'drain'";
    EXPECT_TRUE(Workspace::wait_until([&] { return work_.holds(db, told); }));
    std::this_thread::sleep_for(milliseconds(200));  // from the coordinator to the sleeping trainer's socket
  }
  Finished wake_and_wait() {
    for (const pid_t pid : work_.processes("tenfold-trainer")) ::kill(pid, SIGCONT);
    return work_.wait(run_);
  }
  void expect_the_same_command_goes_on(const std::string& db) {
    expect_none_left(work_);
    expect_sound(work_, db);
    EXPECT_EQ(work_.query(db, "SELECT count(*) FROM trial WHERE status = 'failed'"), "0\n");
    const Finished again = work_.tenfold(run(db));
    EXPECT_EQ(again.exit_code, 0) << again.output;
    expect_as_undisturbed(work_, db, expected());
  }

  Workspace work_;
  inline static std::string expected_;  // of an undisturbed run, made once for all tests
  pid_t run_ = -1;
};

#define SKIP_UNLESS_MOUNTED(disk) \
  if (!(disk).mounted()) return test::missing("NAMESPACES", "mounting a tmpfs is not permitted here")

TEST_F(Disk, ATrialGoesOnWithoutTheCheckpointsThatFindNoSpace) {
  const SmallDisk disk(work_.file("a.db.checkpoints"), kDiskBytes);
  SKIP_UNLESS_MOUNTED(disk);
  start_and_sleep("a.db", "adapt");
  disk.fill();
  const Finished finished = wake_and_wait();
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  EXPECT_THAT(finished.output,
              AllOf(HasSubstr("a.db.checkpoints/trial"), HasSubstr("No space left on device; free some space"),
                    HasSubstr("goes on without")));
  EXPECT_NE(work_.query("a.db", "SELECT count(*) FROM event WHERE kind = 'checkpoint_failed'"), "0\n");
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM attempt WHERE outcome = 'failed'"), "0\n");
  expect_as_undisturbed(work_, "a.db", expected());
}

TEST_F(Disk, TrainedParametersThatFindNoSpaceStopTheRunInOrder) {
  const SmallDisk disk(work_.file("a.db.checkpoints"), kDiskBytes);
  SKIP_UNLESS_MOUNTED(disk);
  start_and_sleep("a.db", "fit");
  disk.fill();
  const Finished finished = wake_and_wait();
  EXPECT_EQ(finished.exit_code, 6) << finished.output;
  EXPECT_THAT(finished.output, AllOf(HasSubstr("a.db.checkpoints/fit"), HasSubstr("-trained.safetensors"),
                                     HasSubstr("No space left on device; free some space")));
  EXPECT_NE(work_.query("a.db", "SELECT count(*) FROM event WHERE kind = 'storage_problem'"), "0\n");
  disk.free();
  expect_the_same_command_goes_on("a.db");
}

TEST_F(Disk, AStoreThatFindsNoSpaceKeepsWhatItHas) {
  const SmallDisk disk(work_.file("disk"), kDiskBytes);
  SKIP_UNLESS_MOUNTED(disk);
  start_and_sleep("disk/a.db", "fit");
  disk.fill();
  const Finished finished = wake_and_wait();
  EXPECT_EQ(finished.exit_code, 6) << finished.output;
  EXPECT_THAT(finished.output, AllOf(HasSubstr("disk/a.db"), HasSubstr("free some space")));
  expect_none_left(work_);
  disk.fill();
  const Finished still = work_.tenfold(run("disk/a.db"));
  EXPECT_EQ(still.exit_code, 6) << still.output;
  EXPECT_THAT(still.output, AllOf(HasSubstr("disk/a.db"), HasSubstr("space")));
  disk.free();
  expect_the_same_command_goes_on("disk/a.db");
}

TEST_F(Disk, AReadOnlyStoreIsReadAndNotRun) {
  const SmallDisk disk(work_.file("disk"), kDiskBytes);
  SKIP_UNLESS_MOUNTED(disk);
  start_and_sleep("disk/a.db", "adapt");
  ::kill(run_, SIGTERM);
  wait_for_the_drain("disk/a.db");
  ASSERT_EQ(wake_and_wait().exit_code, 75);
  expect_none_left(work_);
  ASSERT_TRUE(disk.make_read_only(true));
  const Finished refused = work_.tenfold(run("disk/a.db"));
  EXPECT_EQ(refused.exit_code, 6) << refused.output;
  EXPECT_THAT(refused.output, AllOf(HasSubstr("disk/a.db"), HasSubstr("read-only")));
  EXPECT_EQ(work_.query("disk/a.db", "SELECT count(*) FROM trial"), "8\n");
  EXPECT_EQ(work_.tenfold({"status", "--db", "disk/a.db"}).exit_code, 0);
  ASSERT_TRUE(disk.make_read_only(false));
  expect_the_same_command_goes_on("disk/a.db");
}

class Permission : public Disk {
 protected:
  // Root may write everywhere, unless it gives that up; with it go all processes that it starts.
  void SetUp() override {
    if (::geteuid() == 0)
      work_.start_through({"setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps",
                           "-dac_override,-dac_read_search"});
  }
};

TEST_F(Permission, ATrialGoesOnWithoutTheCheckpointsThatItMayNotWrite) {
  start_and_sleep("a.db", "adapt");
  ::chmod(work_.file("a.db.checkpoints").c_str(), 0555);
  const Finished finished = wake_and_wait();
  ::chmod(work_.file("a.db.checkpoints").c_str(), 0755);
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  EXPECT_THAT(finished.output, AllOf(HasSubstr("a.db.checkpoints"), HasSubstr("Permission denied; check the perm")));
  EXPECT_NE(work_.query("a.db", "SELECT count(*) FROM event WHERE kind = 'checkpoint_failed'"), "0\n");
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM attempt WHERE outcome = 'failed'"), "0\n");
  expect_as_undisturbed(work_, "a.db", expected());
}

TEST_F(Permission, TrainedParametersThatMayNotBeWrittenStopTheRunInOrder) {
  start_and_sleep("a.db", "fit");
  ::chmod(work_.file("a.db.checkpoints").c_str(), 0555);
  const Finished finished = wake_and_wait();
  ::chmod(work_.file("a.db.checkpoints").c_str(), 0755);
  EXPECT_EQ(finished.exit_code, 6) << finished.output;
  EXPECT_THAT(finished.output,
              AllOf(HasSubstr("-trained.safetensors"), HasSubstr("Permission denied; check the perm")));
  expect_the_same_command_goes_on("a.db");
}

TEST_F(Permission, AFolderThatMayNotBeWrittenIsNamed) {
  std::filesystem::create_directories(work_.file("locked"));
  ::chmod(work_.file("locked").c_str(), 0555);
  const Finished finished = work_.tenfold(run("locked/a.db"));
  EXPECT_EQ(finished.exit_code, 6) << finished.output;
  EXPECT_THAT(finished.output, AllOf(HasSubstr("locked/a.db"), HasSubstr("check the permissions")));
}

TEST_F(Permission, ARunGoesOnWithoutItsLogs) {
  expected();
  std::filesystem::create_directories(work_.file("a.db.logs"));
  ::chmod(work_.file("a.db.logs").c_str(), 0555);
  const Finished finished = work_.tenfold(run("a.db"));
  ::chmod(work_.file("a.db.logs").c_str(), 0755);
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  EXPECT_THAT(finished.output, AllOf(HasSubstr("a.db.logs/mpirun.log"), HasSubstr("not kept")));
  expect_as_undisturbed(work_, "a.db", expected());
}

TEST_F(Disk, ADataCacheThatFindsNoSpaceIsNamedBeforeAnythingStarts) {
  const SmallDisk disk(work_.file("cache"), 1 << 20);
  SKIP_UNLESS_MOUNTED(disk);
  expected();
  work_.set("TENFOLD_CACHE", disk.folder().string());
  disk.fill();
  const Finished finished = work_.tenfold(run("a.db"));
  EXPECT_EQ(finished.exit_code, 6) << finished.output;
  EXPECT_THAT(finished.output, AllOf(HasSubstr("cache/"), HasSubstr("No space left"), HasSubstr("TENFOLD_CACHE")));
  EXPECT_FALSE(std::filesystem::exists(work_.file("a.db")));
  disk.free();
  const Finished again = work_.tenfold(run("a.db"));
  EXPECT_EQ(again.exit_code, 0) << again.output;
  expect_as_undisturbed(work_, "a.db", expected());
}

}  // namespace
}  // namespace tenfold

// A run that goes on elsewhere, or with less: other slots, another folder and host, no shared memory, no GPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cstdlib>

#include "tests/faults/fault_run.h"
#include "tests/missing.h"

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
    if (!work_.wait_until([&] {
          return work_.query("a.db", "SELECT count(DISTINCT fit) >= " + count + " FROM checkpoint") == "1\n";
        })) {
      ::kill(pid, SIGTERM);
      FAIL() << "no checkpoints: " << work_.wait(pid, seconds(20)).output << work_.query("a.db", "SELECT * FROM event");
    }
    ::kill(pid, SIGTERM);
    ASSERT_EQ(work_.wait(pid, seconds(20)).exit_code, 75);
    work_.unset("TENFOLD_FAKE_STEP_MS");
  }
  void expect_goes_on(const std::string& db = "a.db", std::vector<std::string> more = {}) {
    finish(db, std::move(more));
    EXPECT_EQ(work_.query(db, "SELECT count(*) > 0 FROM attempt WHERE resumed_from_step > 0"), "1\n");
  }
};

// Stopped all together: by scontrol suspend, docker pause, a machine that sleeps. Each finds that it heard nothing for
// long, and that the others were not there to be heard.
TEST_F(Places, GoesOnAfterAllOfItStoodStill) {
  for (const char* limit : {"TENFOLD_PEER_SILENCE_S", "TENFOLD_TRAINER_SILENCE_S", "TENFOLD_ALIVE_TIMEOUT_S"})
    work_.set(limit, "5");
  work_.set("TENFOLD_FAKE_STEP_MS", "60");
  const pid_t front = work_.start(run("a.db", {"--slots", "2"}));
  ASSERT_TRUE(work_.wait_until([&] { return work_.holds("a.db", "SELECT count(DISTINCT fit) >= 2 FROM checkpoint"); },
                               seconds(60)));
  std::vector<pid_t> all = work_.processes();
  EXPECT_GE(all.size(), 7U) << "front, mpirun, three ranks, two trainers";
  for (const pid_t pid : all) ::kill(pid, SIGSTOP);
  sleep_s(7);
  std::shuffle(all.begin(), all.end(), random_);
  for (const pid_t pid : all) ::kill(pid, SIGCONT);
  const Finished finished = work_.wait(front);
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  EXPECT_EQ(work_.query("a.db", "SELECT detail FROM event WHERE kind = 'worker_lost'"), "");
  EXPECT_EQ(work_.query("a.db", "SELECT reason FROM attempt WHERE outcome <> 'done'"), "");
  expect_as_undisturbed(work_, "a.db", expected());
}

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
  if (!enter(work_, "--uts", "hostname elsewhere"))
    return test::missing("NAMESPACES", "unshare --uts is not permitted here");
  expect_goes_on("moved/a.db");
  EXPECT_EQ(work_.query("moved/a.db",
                        "SELECT count(*) > 0 FROM attempt WHERE host = 'elsewhere' AND "
                        "resumed_from_step > 0"),
            "1\n");
}

TEST_F(Places, GoesOnWhereSharedMemoryIsFull) {
  run_half(2);
  const std::string fill = "mount -t tmpfs -o size=256k none /dev/shm && head -c 240k /dev/zero > /dev/shm/full";
  if (!enter(work_, "--mount", fill)) return test::missing("NAMESPACES", "unshare --mount is not permitted here");
  expect_goes_on();
}

// Process ids mean nothing across containers that share a folder: the files of a run must outlive the start of another.
TEST_F(Places, ARunInAContainerBesideItLeavesTheFilesOfALiveOne) {
  const std::vector<std::string> container{"unshare", "--pid", "--fork", "--mount-proc"};
  if (std::system("unshare --pid --fork --mount-proc true 2>/dev/null") != 0)
    return test::missing("NAMESPACES", "unshare --pid is not permitted here");
  work_.set("TMPDIR", work_.file("").string());
  work_.set("TENFOLD_FAKE_STEP_MS", "1000");
  const pid_t live = work_.start(run("a.db", {"--slots", "1"}));
  ASSERT_TRUE(work_.wait_until_some("tenfold-fake-trainer", 1, seconds(30)));
  std::filesystem::path folder;
  for (const std::filesystem::path& base : {std::filesystem::path("/dev/shm"), work_.file("")})
    for (const auto& entry : std::filesystem::directory_iterator(base))
      if (entry.path().filename().string().starts_with("tenfold-run-" + std::to_string(live) + "-"))
        folder = entry.path();
  ASSERT_TRUE(std::filesystem::exists(folder / "front"));
  work_.unset("TENFOLD_FAKE_STEP_MS");
  work_.start_through(container);
  const Finished beside = complete("b.db");
  EXPECT_EQ(beside.exit_code, 0) << beside.output;
  EXPECT_TRUE(std::filesystem::exists(folder / "front"));
  ::kill(live, SIGKILL);
  work_.wait(live);
  ASSERT_TRUE(work_.wait_until_none_left(seconds(10)));
  EXPECT_TRUE(std::filesystem::exists(folder));
  finish("a.db");
  EXPECT_FALSE(std::filesystem::exists(folder)) << "its owner is dead";
}

TEST_F(Places, AStoreIsTheSameByItsNameAndByALinkToIt) {
  std::filesystem::create_directories(work_.file("far"));
  std::filesystem::create_symlink("far/real.db", work_.file("a.db"));
  run_half(2);
  EXPECT_TRUE(std::filesystem::is_symlink(work_.file("a.db")));
  EXPECT_FALSE(std::filesystem::exists(work_.file("a.db.checkpoints")));
  EXPECT_FALSE(std::filesystem::exists(work_.file("a.db.lock")));
  EXPECT_FALSE(std::filesystem::is_empty(work_.file("far/real.db.checkpoints")));

  work_.set("TENFOLD_FAKE_STEP_MS", "500");
  const pid_t first = work_.start(run("far/real.db", {"--slots", "1"}));
  ASSERT_TRUE(work_.wait_until([&] { return work_.query("a.db", "SELECT max(number) FROM attempt") == "2\n"; }));
  const Finished second = complete("a.db");
  EXPECT_EQ(second.exit_code, 6) << second.output;
  EXPECT_THAT(second.output, HasSubstr("is held by pid"));
  EXPECT_THAT(work_.tenfold({"merge", "merged.db", "a.db"}).output, HasSubstr("is held by pid"));
  ::kill(first, SIGTERM);
  EXPECT_EQ(work_.wait(first).exit_code, 75);
  work_.unset("TENFOLD_FAKE_STEP_MS");
  work_.set("TENFOLD_PUBLISH", "always");
  expect_goes_on("a.db");
  EXPECT_TRUE(std::filesystem::is_symlink(work_.file("a.db"))) << "what is published replaces the store, not the link";
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM event WHERE kind = 'checkpoint_damaged'"), "0\n");
}

TEST_F(Places, AFolderOfCheckpointsThatLedElsewhereIsNamed) {
  std::filesystem::create_directory_symlink("/purged/scratch", work_.file("a.db.checkpoints"));
  const Finished finished = complete("a.db");
  EXPECT_EQ(finished.exit_code, 6) << finished.output;
  EXPECT_THAT(finished.output, HasSubstr("a.db.checkpoints: the folder of checkpoints cannot be made"));
  std::filesystem::remove(work_.file("a.db.checkpoints"));
  finish("a.db");
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

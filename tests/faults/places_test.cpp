// A run that goes on elsewhere, or with less: other slots, another folder and host, no shared memory, no GPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>

#include "tests/faults/oracle.h"

namespace tenfold {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

constexpr const char* kExperiment = R"(name: places
dataset: {kind: synthetic, samples: 240, features: 8, classes: 3}
folds: {kind: stratified, k: 4}
model: {kind: mlp, hidden: [16]}
train: {epochs: 4, batch_size: 16}
ttt: {method: entropy_diversity, steps: 5, batch_size: 32}
metrics: [accuracy]
sweep: {ttt.lr: [1e-4, 1e-3, 1e-2]}
)";

// `tenfold` in namespaces of its own, after a line of shell that changes what it sees. False: not permitted here.
bool enter(Workspace& work, const std::string& namespaces, const std::string& preparation) {
  if (std::system(("unshare " + namespaces + " true 2>/dev/null").c_str()) != 0) return false;
  work.set("PLACES_PREPARATION", preparation);
  work.start_through({"unshare", namespaces, "sh", "-c", "eval \"$PLACES_PREPARATION\" && exec \"$@\"", "sh"});
  return true;
}

class Places : public testing::Test {
 protected:
  void SetUp() override {
    work_.use_fake_trainer();
    work_.write("x.yaml", kExperiment);
    if (expected_.empty()) {
      ASSERT_EQ(work_.tenfold(run("calm.db", 2)).exit_code, 0);
      expected_ = results_of(work_, "calm.db");
    }
  }
  std::vector<std::string> run(const std::string& db, int slots, const std::string& device = "cpu") {
    return {"run", "x.yaml", "--db", db, "--slots", std::to_string(slots), "--device", device};
  }
  // Stopped when each of `slots` has a checkpoint on its way.
  void run_half(int slots) {
    work_.set("TENFOLD_FAKE_STEP_MS", "60");
    const pid_t pid = work_.start(run("a.db", slots));
    // The store is there before they are.
    ASSERT_TRUE(work_.wait_until_some("tenfold-fake-trainer", 1, seconds(30)));
    const auto deadline = std::chrono::steady_clock::now() + seconds(30);
    while (work_.query("a.db", "SELECT count(DISTINCT fit) >= " + std::to_string(slots) + " FROM checkpoint") != "1\n")
      ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    ::kill(pid, SIGTERM);
    ASSERT_EQ(work_.wait(pid, seconds(20)).exit_code, 75);
    work_.unset("TENFOLD_FAKE_STEP_MS");
  }
  void expect_goes_on(const std::vector<std::string>& command, const std::string& db = "a.db") {
    const Finished finished = work_.tenfold(command);
    EXPECT_EQ(finished.exit_code, 0) << finished.output;
    EXPECT_EQ(work_.query(db, "SELECT count(*) > 0 FROM attempt WHERE resumed_from_step > 0"), "1\n");
    expect_none_left(work_);
    expect_as_undisturbed(work_, db, expected_);
  }

  Workspace work_;
  static inline std::string expected_;  // of an undisturbed run
};

TEST_F(Places, GoesOnWithFewerSlots) {
  run_half(3);
  expect_goes_on(run("a.db", 1));
}

TEST_F(Places, GoesOnWithMoreSlots) {
  run_half(1);
  expect_goes_on(run("a.db", 4));
}

TEST_F(Places, GoesOnOnAnotherHostInAnotherFolder) {
  run_half(2);
  const std::filesystem::path moved = work_.file("moved");
  std::filesystem::create_directories(moved);
  for (const char* name : {"a.db", "a.db-wal", "a.db-shm", "a.db.checkpoints"})
    if (std::filesystem::exists(work_.file(name))) std::filesystem::rename(work_.file(name), moved / name);
  if (!enter(work_, "--uts", "hostname elsewhere")) GTEST_SKIP() << "namespaces are not permitted here (unshare --uts)";
  expect_goes_on(run("moved/a.db", 2), "moved/a.db");
  EXPECT_EQ(work_.query("moved/a.db",
                        "SELECT count(*) > 0 FROM attempt WHERE host = 'elsewhere' AND "
                        "resumed_from_step > 0"),
            "1\n");
}

TEST_F(Places, GoesOnWhereSharedMemoryIsFull) {
  run_half(2);
  const std::string fill = "mount -t tmpfs -o size=256k none /dev/shm && head -c 240k /dev/zero > /dev/shm/full";
  if (!enter(work_, "--mount", fill)) GTEST_SKIP() << "namespaces are not permitted here (unshare --mount)";
  expect_goes_on(run("a.db", 2));
}

TEST_F(Places, AGpuThatIsNotThereIsNamedAndNothingIsLost) {
  run_half(2);
  work_.set("CUDA_VISIBLE_DEVICES", "-1");
  const Finished finished = work_.tenfold(run("a.db", 2, "cuda"));
  EXPECT_EQ(finished.exit_code, 4) << finished.output;
  EXPECT_THAT(finished.output, HasSubstr("no NVIDIA GPU is visible here"));
  EXPECT_THAT(finished.output, HasSubstr("--device cpu"));
  expect_sound(work_, "a.db");
  expect_goes_on(run("a.db", 2, "auto"));
}

}  // namespace
}  // namespace tenfold

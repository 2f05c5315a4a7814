// What can befall a run on GPUs: a trainer that dies in the middle of a CUDA graph's steps, a device without enough
// memory, one that is gone when the run goes on, a member of a group that NCCL waits for in vain, and trainers that
// share a device. Array sizes change the order of sums on a GPU, so results are held to those of an undisturbed run
// within a tolerance, and everything else to the oracle.
#include <dlfcn.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

#include "experiments/file_text.h"
#include "tests/faults/fault_run.h"
#include "tests/trainer/gpu.h"

namespace tenfold {
namespace {

using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;

constexpr const char* kOnGpu = R"(name: on_gpu
dataset: {kind: synthetic, samples: 2400, features: 8, classes: 3, separation: 3.0, shift: {kind: gaussian_noise, severity: 2}}
folds: {kind: stratified, k: 4}
model: {kind: mlp, hidden: [64], norm: layer, dropout: 0.1}
train: {steps: 40000, batch_size: 64, optimizer: {kind: adamw, lr: 1e-4}}
ttt: {method: entropy_diversity, steps: 200, batch_size: 64}
metrics: [accuracy, nll]
sweep: {ttt.lr: [1e-5, 1e-4]}
resources: {device: cuda}
checkpoint: {every_steps: 2000}
)";

// A member takes about 0.6 GB: 36 million parameters, their gradients and moments.
constexpr const char* kLarge = R"(name: large
dataset: {kind: synthetic, samples: 640, features: 7, classes: 3, separation: 4, seed: 5}
folds: {kind: stratified, k: 8}
model: {kind: mlp, hidden: [6000, 6000], norm: none}
train: {steps: 6, batch_size: 64, optimizer: {kind: adamw, lr: 1e-4}}
ttt: source
metrics: [nll]
resources: {device: cuda}
)";

constexpr const char* kGroups = R"(name: groups
dataset: {kind: synthetic, samples: 4096, features: 16, classes: 3, separation: 4}
folds: {kind: stratified, k: 2}
model: {kind: mlp, hidden: [256, 256], norm: layer}
train: {steps: 30000, batch_size: 512, optimizer: {kind: adamw, lr: 1e-4}}
ttt: {method: entropy_diversity, steps: 20, batch_size: 512}
metrics: [nll]
resources: {device: cuda, ranks_per_trial: 2}
checkpoint: {every_steps: 1500}
)";

// Somebody else on the first GPU, who leaves so much of its memory. A process of its own, because this one must not
// touch CUDA before it starts others.
class OtherUser {
 public:
  explicit OtherUser(std::size_t leaves_bytes) {
    int ready[2];
    if (::pipe(ready) != 0) return;
    pid_ = ::fork();
    if (pid_ == 0) {
      const char said = take(leaves_bytes) ? 'y' : 'n';
      [[maybe_unused]] const ssize_t written = ::write(ready[1], &said, 1);
      while (true) ::pause();
    }
    ::close(ready[1]);
    char said = 0;
    took_ = ::read(ready[0], &said, 1) == 1 && said == 'y';
    ::close(ready[0]);
  }
  OtherUser(const OtherUser&) = delete;
  OtherUser& operator=(const OtherUser&) = delete;
  ~OtherUser() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  bool took() const { return took_; }

 private:
  // The driver's interface, so that these tests need no CUDA to be built.
  static bool take(std::size_t leaves_bytes) {
    void* driver = ::dlopen("libcuda.so.1", RTLD_NOW);
    if (!driver) return false;
    const auto call = [&]<typename... A>(const char* name, A... arguments) {
      const auto function = reinterpret_cast<int (*)(A...)>(::dlsym(driver, name));
      return function && function(arguments...) == 0;
    };
    int device = 0;
    void* context = nullptr;
    std::size_t free_bytes = 0, total_bytes = 0;
    std::uint64_t memory = 0;
    return call("cuInit", 0u) && call("cuDeviceGet", &device, 0) &&
           call("cuDevicePrimaryCtxRetain", &context, device) && call("cuCtxSetCurrent", context) &&
           call("cuMemGetInfo_v2", &free_bytes, &total_bytes) && free_bytes > leaves_bytes &&
           call("cuMemAlloc_v2", &memory, free_bytes - leaves_bytes);
  }
  pid_t pid_ = -1;
  bool took_ = false;
};

class GpuFaults : public FaultRun {
 protected:
  void SetUp() override {
    const int needed = needed_gpus();
    if (testing::gpus() >= needed) return;
    ASSERT_EQ(std::getenv("TENFOLD_EXPECT_GPU"), nullptr)
        << needed << " GPUs are expected here, there are " << testing::gpus();
    GTEST_SKIP() << testing::gpus() << " GPUs on this machine and this needs " << needed;
  }
  virtual int needed_gpus() const { return 1; }
  // All metrics, one a line.
  std::string metrics(const std::string& db) const {
    return work_.query(db, "SELECT trial, phase, metric, step, value FROM evaluation ORDER BY 1, 2, 3, 4");
  }
  void expect_close_to(const std::string& db, const std::string& calm, double tolerance) const {
    expect_near(db, metrics(calm), tolerance);
  }
  void expect_near(const std::string& db, const std::string& metrics_of_calm, double tolerance) const {
    std::istringstream ours(metrics(db)), theirs(metrics_of_calm);
    int rows = 0;
    for (std::string a, b; std::getline(theirs, b); ++rows) {
      ASSERT_TRUE(std::getline(ours, a)) << "lacks " << b;
      const std::size_t cut_a = a.rfind(','), cut_b = b.rfind(',');
      ASSERT_EQ(a.substr(0, cut_a), b.substr(0, cut_b));
      const double value = std::stod(a.substr(cut_a + 1)), undisturbed = std::stod(b.substr(cut_b + 1));
      EXPECT_NEAR(value, undisturbed, tolerance * std::max(1.0, std::abs(undisturbed))) << a;
    }
    EXPECT_GT(rows, 0);
    EXPECT_EQ(work_.query(db, "SELECT id FROM trial WHERE status <> 'done'"), "");
    expect_sound(work_, db);
  }
  void await_checkpoints(const std::string& db, int count) const {
    const std::string there = "SELECT count(*) >= " + std::to_string(count) + " FROM checkpoint";
    EXPECT_TRUE(Workspace::wait_until([&] { return work_.holds(db, there); }, seconds(60))) << there;
  }
  // A run that is told to stop when it has so many checkpoints.
  void drain(const std::string& db, int checkpoints, std::vector<std::string> more = {}) const {
    const pid_t front = work_.start(run(db, std::move(more)));
    await_checkpoints(db, checkpoints);
    ::kill(front, SIGTERM);
    EXPECT_EQ(work_.wait(front).exit_code, 75);
  }
};

TEST_F(GpuFaults, AKilledTrainerIsReplacedAndItsArrayGoesOn) {
  use(kOnGpu);
  ASSERT_EQ(complete("calm.db").exit_code, 0);
  struct Death {
    const char* stage;
    const char* fault;
  };
  for (const auto& [stage, fault] : {Death{"fit", "kill@checkpointed:3"}, Death{"adapt", "kill@outcome:1"}}) {
    const std::string struck = work_.file(std::string("struck-") + stage).string();
    work_.set("TENFOLD_FAULT", std::string(fault) + ",stage=" + stage + ",once=" + struck);
    const std::string db = std::string(stage) + ".db";
    const Finished finished = complete(db);
    ASSERT_EQ(finished.exit_code, 0) << finished.output;
    EXPECT_TRUE(std::filesystem::exists(struck));
    expect_close_to(db, "calm.db", 0.02);
    EXPECT_THAT(work_.query(db, "SELECT DISTINCT reason FROM attempt WHERE outcome = 'failed'"), HasSubstr("SIGKILL"));
    std::printf("%s stage: bits %s those of the undisturbed run\n", stage,
                results_of(work_, db) == results_of(work_, "calm.db") ? "are" : "differ from");
    expect_none_left(work_);
  }
}

TEST_F(GpuFaults, AnArrayThatTheDeviceHasNoRoomForIsHalved) {
  use(kLarge);
  ASSERT_EQ(complete("calm.db", {"--slots", "1"}).exit_code, 0);
  const OtherUser other(std::size_t{3} << 30);
  ASSERT_TRUE(other.took());
  const Finished finished = complete("a.db", {"--slots", "1"});
  ASSERT_EQ(finished.exit_code, 0) << finished.output;
  expect_close_to("a.db", "calm.db", 0.02);
  EXPECT_THAT(work_.query("a.db", "SELECT detail FROM event WHERE kind = 'array_halved'"),
              AllOf(HasSubstr("an array of 8 fits"), HasSubstr("out of memory")));
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM event WHERE kind IN ('retry', 'failed')"), "0\n");

  const Finished larger = complete(
      "b.db", {"--slots", "1", "--set", "model.hidden=[30000, 30000]", "--set", "retries=0", "--set", "folds.k=2"});
  EXPECT_EQ(larger.exit_code, 1) << larger.output;
  expect_sound(work_, "b.db");
  EXPECT_THAT(work_.query("b.db", "SELECT DISTINCT reason FROM fit WHERE status = 'failed'"),
              AllOf(HasSubstr("out of memory"), HasSubstr("resources.max_array")));
  expect_none_left(work_);
}

TEST_F(GpuFaults, WhereTheGpuIsGoneTheRunGoesOnOnCores) {
  use(kOnGpu);
  ASSERT_EQ(complete("calm.db").exit_code, 0);
  drain("a.db", 1);
  work_.set("CUDA_VISIBLE_DEVICES", "");
  const Finished refused = complete("a.db");
  EXPECT_EQ(refused.exit_code, 4) << refused.output;
  EXPECT_THAT(refused.output, HasSubstr("--device cpu"));
  expect_sound(work_, "a.db");
  const Finished finished = complete("a.db", {"--device", "auto", "--slots", "4"});
  ASSERT_EQ(finished.exit_code, 0) << finished.output;
  expect_close_to("a.db", "calm.db", 0.1);
  EXPECT_NE(work_.query("a.db", "SELECT id FROM attempt WHERE resumed_from_step > 0 AND device LIKE 'cpu%'"), "");
}

class SharedGpu : public GpuFaults {
 protected:
  // Why no MPS daemon can be had here; empty: one has just been started, has answered and has ended.
  std::string why_no_mps() const {
    const std::string folder = work_.file("probe").string();
    std::filesystem::create_directories(folder);
    const std::string at =
        "CUDA_MPS_PIPE_DIRECTORY='" + folder + "' CUDA_MPS_LOG_DIRECTORY='" + folder + "' timeout 20 ";
    if (const Said found = say("command -v nvidia-cuda-mps-control"); !found.well)
      return "nvidia-cuda-mps-control is not installed";
    // To a file: a daemon that keeps its output open would keep us waiting at a pipe.
    const Said begun = say(at + "nvidia-cuda-mps-control -d </dev/null >'" + folder + "/said' 2>&1; well=$?; cat '" +
                           folder + "/said'; exit $well");
    if (!begun.well) return "it does not start: " + begun.text;
    const Said answer = say("echo get_server_list | " + at + "nvidia-cuda-mps-control");
    const Said end = say("echo quit | " + at + "nvidia-cuda-mps-control");
    return answer.well && end.well ? "" : "it does not answer: " + answer.text + end.text;
  }
  // Process ids of the servers of the daemon that the run's trainers are told of, as it says itself.
  std::string servers() const {
    const std::string key = "CUDA_MPS_PIPE_DIRECTORY=";
    std::string folder = "/tmp/nvidia-mps";  // what those use who are told nothing
    for (const pid_t trainer : work_.processes("tenfold-trainer")) {
      std::istringstream variables(file_text("/proc/" + std::to_string(trainer) + "/environ").value_or(""));
      for (std::string variable; std::getline(variables, variable, '\0');)
        if (variable.starts_with(key)) folder = variable.substr(key.size());
    }
    return say("echo get_server_list | " + key + "'" + folder + "' timeout 20 nvidia-cuda-mps-control").text;
  }

 private:
  struct Said {
    bool well = false;
    std::string text;
  };
  static Said say(const std::string& command) {
    Said said;
    FILE* answer = ::popen(("{ " + command + "; } 2>&1").c_str(), "r");
    if (!answer) return said;
    char text[256];
    while (std::fgets(text, sizeof text, answer)) said.text += text;
    said.well = ::pclose(answer) == 0;
    return said;
  }
};

TEST_F(SharedGpu, GivesTheResultsOfOneThatIsNotAndKeepsNoDaemon) {
  use(kOnGpu);
  ASSERT_EQ(complete("calm.db").exit_code, 0);
  const std::string unable = why_no_mps();
  const pid_t front = work_.start(run("a.db", {"--set", "resources.slots_per_gpu=3"}));
  await_checkpoints("a.db", 1);
  const std::string serving = unable.empty() ? servers() : "";
  const Finished finished = work_.wait(front);
  ASSERT_EQ(finished.exit_code, 0) << finished.output;
  EXPECT_NE(work_.query("a.db", "SELECT 1 FROM attempt GROUP BY device HAVING count(DISTINCT slot) > 1"), "");
  expect_close_to("a.db", "calm.db", 0.02);
  expect_none_left(work_);
  const std::string note = work_.query("a.db", "SELECT detail FROM event WHERE kind = 'gpu_sharing'");
  if (!unable.empty()) {
    EXPECT_THAT(note, AllOf(HasSubstr("MPS is not used"), HasSubstr("take turns")));
    GTEST_SKIP() << "trainers took turns, and MPS was not tested: " << unable;
  }
  EXPECT_THAT(note, HasSubstr("trainers share GPUs through "));
  EXPECT_THAT(serving, ContainsRegex("^[0-9]+\n")) << "no server served them";
}

class TwoGpuFaults : public GpuFaults {
 protected:
  int needed_gpus() const override { return 2; }
  // Of an undisturbed run of kGroups, once for all cases.
  const std::string& calm_groups() {
    static std::string calm;
    if (!calm.empty()) return calm;
    const Finished finished = complete("calm.db", kTwo);
    EXPECT_EQ(finished.exit_code, 0) << finished.output;
    calm = metrics("calm.db");
    return calm;
  }
  // One attempt of each of its members has failed, for `why`; they went on from a checkpoint, to what they should give.
  void expect_group_recovered(const std::string& db, const ::testing::Matcher<std::string>& why) {
    expect_near(db, calm_groups(), 0.02);
    const std::string reasons = work_.query(db, "SELECT DISTINCT reason FROM attempt WHERE outcome = 'failed'");
    std::printf("%s", reasons.c_str());
    EXPECT_THAT(reasons, AllOf(HasSubstr("of its 2 trainers"), why));
    EXPECT_EQ(work_.query(db, "SELECT count(DISTINCT reason) FROM attempt WHERE outcome = 'failed'"), "1\n");
    EXPECT_EQ(
        work_.query(db,
                    "SELECT max(n) FROM (SELECT count(*) n FROM attempt WHERE outcome = 'failed' GROUP BY fit, trial)"),
        "1\n");
    EXPECT_THAT(work_.query(db, "SELECT detail FROM event WHERE kind IN ('retry', 'array_halved')"), why);
    EXPECT_EQ(
        work_.query(db,
                    "SELECT count(*) FROM attempt a WHERE a.outcome = 'failed' AND NOT EXISTS (SELECT 1 FROM attempt b "
                    "WHERE b.fit IS a.fit AND b.trial IS a.trial AND b.number > a.number AND b.resumed_from_step > 0)"),
        "0\n")
        << "it was not resumed from its checkpoint";
    expect_none_left(work_);
  }

  const std::vector<std::string> kTwo = {"--slots", "2"};
};

// The kernel ends one, the other's GPU waits inside NCCL for a sum that never comes: both are replaced.
TEST_F(TwoGpuFaults, AGroupOfWhichAMemberIsKilledIsReplacedAndGoesOn) {
  use(kGroups);
  calm_groups();
  for (const char* device : {"cuda:1", "cuda:0"}) {  // the leader is on the first
    const std::string db = std::string(device).substr(5) + ".db";
    const pid_t front = work_.start(run(db, kTwo));
    await_checkpoints(db, 1);
    const std::vector<pid_t> before = work_.processes("tenfold-trainer"), one = work_.processes(device);
    ASSERT_EQ(before.size(), 2u);
    ASSERT_EQ(one.size(), 1u);
    ::kill(one[0], SIGKILL);
    const auto replaced = [&] {
      const std::vector<pid_t> now = work_.processes("tenfold-trainer");
      return now.size() == 2 && std::ranges::find_first_of(now, before) == now.end();
    };
    EXPECT_TRUE(Workspace::wait_until(replaced, seconds(30))) << "the other one, or none, goes on";
    const Finished finished = work_.wait(front);
    ASSERT_EQ(finished.exit_code, 0) << finished.output;
    expect_group_recovered(db, HasSubstr("killed by SIGKILL"));
  }
}

// All of it: its heartbeats cease, and its worker does not wait for long.
TEST_F(TwoGpuFaults, AGroupOfWhichAMemberIsStoppedIsReplacedAndGoesOn) {
  use(kGroups);
  calm_groups();
  work_.set("TENFOLD_TRAINER_SILENCE_S", "12");
  const pid_t front = work_.start(run("a.db", kTwo));
  await_checkpoints("a.db", 1);
  const std::vector<pid_t> trainers = work_.processes("tenfold-trainer");
  ASSERT_EQ(trainers.size(), 2u);
  ::kill(trainers[1], SIGSTOP);
  const Finished finished = work_.wait(front, seconds(150));
  ASSERT_EQ(finished.exit_code, 0) << finished.output;
  expect_group_recovered("a.db", HasSubstr("no sign of life for 12 s"));
}

// Its thread that computes hangs while its heart beats on: nobody but the other member, whose GPU waits inside NCCL,
// can tell for a long time.
TEST_F(TwoGpuFaults, AGroupOfWhichAMemberHangsIsCutByTheOthersWatchdog) {
  use(kGroups);
  calm_groups();
  const std::string struck = work_.file("struck").string();
  work_.set("TENFOLD_GROUP_STALL_S", "10");
  work_.set("TENFOLD_FAULT", "hang@together:3000,stage=fit,once=" + struck);
  const Finished finished = complete("a.db", kTwo);
  ASSERT_EQ(finished.exit_code, 0) << finished.output;
  EXPECT_TRUE(std::filesystem::exists(struck));
  expect_group_recovered(
      "a.db", AllOf(HasSubstr("exited with code 5"), HasSubstr("the trial's group is broken: no step for ")));
  EXPECT_EQ(work_.query("a.db", "SELECT DISTINCT resumed_from_step FROM attempt WHERE resumed_from_step > 0"),
            "3000\n");
}

TEST_F(TwoGpuFaults, WithOneGpuLessTheRunGoesOn) {
  use(kOnGpu);
  ASSERT_EQ(complete("calm.db").exit_code, 0);
  drain("a.db", 2, {"--set", "resources.max_array=1"});
  work_.set("CUDA_VISIBLE_DEVICES", "1");
  const Finished finished = complete("a.db");
  ASSERT_EQ(finished.exit_code, 0) << finished.output;
  expect_close_to("a.db", "calm.db", 0.02);
}

}  // namespace
}  // namespace tenfold

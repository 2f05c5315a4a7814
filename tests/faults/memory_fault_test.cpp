// A trainer that may not have as much memory as its array takes: the address space of the process is limited.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "tests/faults/oracle.h"

namespace tenfold {
namespace {

using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;

// A member takes about 100 MB: four million parameters, their gradients, moments and what an update makes of them.
constexpr const char* kExperiment = R"(name: large
dataset: {kind: synthetic, samples: 64, features: 7, classes: 3, separation: 4, seed: 5}
folds: {kind: stratified, k: 4}
model: {kind: mlp, hidden: [2000, 2000], norm: none}
train: {steps: 3, batch_size: 16, optimizer: {kind: adamw, lr: 1e-3}}
ttt: source
metrics: [nll]
)";

class MemoryFault : public ::testing::Test {
 protected:
  MemoryFault() { work_.write("large.yaml", kExperiment); }

  std::vector<std::string> words(const std::string& db, const std::vector<std::string>& more) const {
    std::vector<std::string> all{"run", work_.file("large.yaml").string(), "--db", db, "--slots", "1", "--device",
                                 "cpu"};
    for (const std::string& setting : more) {
      all.push_back("--set");
      all.push_back(setting);
    }
    return all;
  }
  // The most address space of the trainer, KiB, while each fit is computed alone.
  long peak_of_one(const std::string& db) const {
    const pid_t pid = work_.start(words(db, {"resources.max_array=1"}));
    long peak = 0;
    std::atomic<bool> ended = false;
    std::thread wait([&] {
      EXPECT_EQ(work_.wait(pid, seconds(120)).exit_code, 0);
      ended = true;
    });
    while (!ended) {
      for (const pid_t trainer : work_.processes("tenfold-trainer")) {
        std::ifstream status("/proc/" + std::to_string(trainer) + "/status");
        for (std::string line; std::getline(status, line);)
          if (line.starts_with("VmPeak:")) peak = std::max(peak, std::atol(line.c_str() + 7));
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    wait.join();
    return peak;
  }
  void limit_trainers(long kibibytes) {
    const std::string trainer = std::string(std::getenv("TENFOLD_BIN_DIR")) + "/tenfold-trainer";
    work_.write("limited-trainer",
                "#!/bin/sh\nulimit -v " + std::to_string(kibibytes) + "\nexec '" + trainer + "' \"$@\"\n");
    ::chmod(work_.file("limited-trainer").c_str(), 0755);
    work_.set("TENFOLD_TRAINER", work_.file("limited-trainer").string());
  }
  Workspace work_;
};

TEST_F(MemoryFault, AnArrayThatDoesNotFitIsHalvedUntilItDoes) {
  const long one = peak_of_one("alone.db");
  ASSERT_GT(one, 0);
  limit_trainers(one + 64 * 1024);
  const Finished finished = work_.tenfold(words("a.db", {"resources.max_array=4"}));
  ASSERT_EQ(finished.exit_code, 0) << finished.output;
  expect_as_undisturbed(work_, "a.db", results_of(work_, "alone.db"));
  const std::string halved = work_.query("a.db", "SELECT detail FROM event WHERE kind = 'array_halved'");
  EXPECT_THAT(halved, AllOf(HasSubstr("an array of 4 fits"), HasSubstr("out of memory")));
  // No fit and no trial has failed by itself.
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM event WHERE kind IN ('retry', 'failed')"), "0\n");
  expect_none_left(work_);

  // One that does not fit even alone fails, and says what can be done.
  const Finished larger =
      work_.tenfold(words("b.db", {"model.hidden=[7000, 7000]", "resources.max_array=1", "retries=0", "folds.k=2"}));
  EXPECT_EQ(larger.exit_code, 1) << larger.output;
  expect_ended(work_, "b.db");
  EXPECT_THAT(
      work_.query("b.db", "SELECT DISTINCT reason FROM fit WHERE status = 'failed'"),
      AllOf(HasSubstr("out of memory"), HasSubstr("make resources.max_array, the batch size or the model smaller")));
}

}  // namespace
}  // namespace tenfold

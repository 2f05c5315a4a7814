// Rank groups over two GPUs by NCCL, a process each as trainers are. Skipped, and said so, with fewer;
// TENFOLD_EXPECT_GPU=1 makes that a failure. This program's own process never touches CUDA: the ranks are forked from
// it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/trainer/array_harness.h"
#include "tests/trainer/gpu.h"
#include "tests/trainer/group_processes.h"
#include "trainer/checkpoint.h"

namespace tenfold::testing {
namespace {

struct Kind {
  const char* name;
  const char* dataset;
  const char* model;
};

void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

class TwoGpus : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    if (gpus() >= 2) return;
    ASSERT_EQ(std::getenv("TENFOLD_EXPECT_GPU"), nullptr) << "two GPUs are expected here and there are " << gpus();
    GTEST_SKIP() << gpus() << " GPUs on this machine: groups over NCCL are not tested";
  }
  ExperimentSpec spec() const {
    std::string dataset = GetParam().dataset;
    if (dataset.empty()) {
      const std::filesystem::path file = space_.folder() / "text.txt";
      std::ofstream out(file);
      for (int i = 0; i < 160; ++i) out << "to be or not to be, that is question " << i % 7 << ".\n";
      dataset = "{kind: text, path: " + file.string() + ", sequence_length: 24}";
    }
    return spec_from_yaml("dataset: " + dataset + "\nfolds: {kind: kfold, k: 3}\nmodel: " + GetParam().model +
                          "\ntrain: {steps: 30, batch_size: 22, optimizer: {kind: sgd, lr: 0.05}, clip_norm: 1.0}\n"
                          "ttt: {steps: 2, batch_size: 22, lr: 0.003, query_size: 22}\nmetrics: [accuracy, nll]\n"
                          "checkpoint: {every_steps: 10}\n");
  }
  Workspace space_;
};

void expect_close(double a, double b, double relative, const char* what) {
  EXPECT_LE(std::abs(a - b), relative * std::max(1e-3, std::abs(b))) << what << ": " << a << " against " << b;
}

void expect_none(const GroupResult& result) {
  for (const std::string& error : result.errors) EXPECT_EQ(error, "");
}

void expect_same_training(const GroupResult& two, const GroupResult& one) {
  ASSERT_EQ(two.train_steps.size(), 30u);
  ASSERT_EQ(one.train_steps.size(), 30u);
  expect_close(two.train_steps[0].loss, one.train_steps[0].loss, 1e-5, "first loss");
  expect_close(two.train_steps[0].grad_norm, one.train_steps[0].grad_norm, 1e-5, "first gradient norm");
  for (std::size_t i = 0; i < 30; ++i) expect_close(two.train_steps[i].loss, one.train_steps[i].loss, 1e-2, "loss");
  EXPECT_GE(two.checkpoints.size(), 3u);
}

void expect_same_adaptation(const GroupResult& two, const GroupResult& one) {
  ASSERT_EQ(two.ttt_steps.size(), 2u);
  ASSERT_EQ(one.ttt_steps.size(), 2u);
  expect_close(two.ttt_steps[0].total, one.ttt_steps[0].total, 1e-5, "total");
  expect_close(two.ttt_steps[0].grad_norm, one.ttt_steps[0].grad_norm, 1e-4, "gradient norm");
  ASSERT_EQ(two.evaluations.size(), one.evaluations.size());
  for (std::size_t i = 0; i < two.evaluations.size(); ++i)
    expect_close(two.evaluations[i].value, one.evaluations[i].value, 1e-2, "evaluation");
}

ArrayJob named(ArrayJob job, const char* name) {
  job.array = name;
  return job;
}

// The cases with what the job's last checkpoint holds of them to start from.
std::vector<Case> trained(std::vector<Case> cases, const GroupResult& fits) {
  const CheckpointNotice& last = fits.checkpoints.back();
  for (std::size_t k = 0; k < cases.size(); ++k)
    cases[k].fit = {last.path, static_cast<std::int64_t>(k), last.step, last.sha256};
  return cases;
}

// Gradients of all members, and one number more of each, which a fit sums with them.
std::int64_t summed_by_a_fit(const std::vector<Case>& cases) {
  CheckpointReader reader;
  std::int64_t count = 0;
  for (const Case& one : cases) {
    for (const auto& [name, tensor] : reader.read(*one.fit).tensors)
      if (name.starts_with("parameter/")) count += tensor.numel();
    count += 1;
  }
  return count;
}

// What processes ask of NCCL while this lives, as its log tells: how many numbers, and how often it was called for so
// many. A captured step calls once; its replays do not.
class NcclSums {
 public:
  explicit NcclSums(const std::filesystem::path& folder) : folder_(folder) {
    std::filesystem::create_directories(folder_);
    setenv("NCCL_DEBUG", "INFO", 1);
    setenv("NCCL_DEBUG_SUBSYS", "COLL", 1);
    setenv("NCCL_DEBUG_FILE", (folder_ / "%p").c_str(), 1);
  }
  ~NcclSums() {
    for (const char* name : {"NCCL_DEBUG", "NCCL_DEBUG_SUBSYS", "NCCL_DEBUG_FILE"}) unsetenv(name);
  }
  NcclSums(const NcclSums&) = delete;
  NcclSums& operator=(const NcclSums&) = delete;

  // Of every rank; a line is "... AllReduce: opCount 2 sendbuff 0x7f... recvbuff 0x7f... count 198 datatype 7 ...".
  std::vector<std::map<std::int64_t, int>> by_rank() const {
    std::vector<std::map<std::int64_t, int>> ranks;
    for (const auto& file : std::filesystem::directory_iterator(folder_)) {
      std::map<std::int64_t, int> calls;
      std::ifstream in(file.path());
      for (std::string line; std::getline(in, line);) {
        const std::size_t at = line.find(" count ");
        if (line.find("AllReduce: ") != std::string::npos && at != std::string::npos)
          ++calls[std::stoll(line.substr(at + 7))];
      }
      ranks.push_back(std::move(calls));
    }
    return ranks;
  }

 private:
  std::filesystem::path folder_;
};

TEST_P(TwoGpus, AgreeWithOneAndWithTheCpu) {
  const std::vector<Case> fits = {{spec(), 0, 0, {}, {}}, {spec(), 0, 1, {}, {}}};
  const ArrayJob job = space_.job(Stage::fit, fits, "fit");
  const GroupResult cpu = run_group_processes(named(job, "cpu"), {"cpu"});
  const GroupResult one = run_group_processes(named(job, "one"), {"cuda:0"});
  const GroupResult two = run_group_processes(named(job, "two"), {"cuda:0", "cuda:1"});  // compares bits at checkpoints
  expect_none(cpu);
  expect_none(one);
  expect_none(two);
  expect_same_training(two, one);
  if (HasFatalFailure()) return;
  expect_close(two.train_steps[0].loss, cpu.train_steps.at(0).loss, 1e-5, "first loss against the CPU");

  const ArrayJob adapt = space_.job(Stage::adapt, trained(fits, cpu), "adapt");
  const GroupResult adapted_one = run_group_processes(adapt, {"cuda:0"});
  const GroupResult adapted_two = run_group_processes(adapt, {"cuda:0", "cuda:1"});
  expect_none(adapted_two);
  expect_same_adaptation(adapted_two, adapted_one);
}

// Gradients leave in several sums, all of them in one graph with the step.
TEST_P(TwoGpus, AgreeWithOneInManyBuckets) {
  const std::vector<Case> fits = {{spec(), 0, 0, {}, {}}, {spec(), 0, 1, {}, {}}};
  const ArrayJob job = space_.job(Stage::fit, fits, "fit");
  const std::vector<std::string> both = {"cuda:0", "cuda:1"};
  const GroupResult one = run_group_processes(named(job, "one"), {"cuda:0"});
  expect_none(one);
  ASSERT_FALSE(one.checkpoints.empty());
  const std::vector<Case> trials = trained(fits, one);
  const ArrayJob adapt = space_.job(Stage::adapt, trials, "adapt");
  const GroupResult adapted_one = run_group_processes(adapt, {"cuda:0"});

  std::vector<std::map<std::int64_t, int>> usual;
  {
    const NcclSums sums(space_.folder() / "usual");
    expect_none(run_group_processes(named(job, "usual"), both));
    usual = sums.by_rank();
  }
  std::vector<std::map<std::int64_t, int>> small;
  setenv("TENFOLD_BUCKET_BYTES", "1024", 1);
  {
    const NcclSums sums(space_.folder() / "small");
    const GroupResult two = run_group_processes(named(job, "small"), both);
    small = sums.by_rank();
    expect_none(two);
    expect_same_training(two, one);
  }
  const GroupResult adapted_two = run_group_processes(adapt, both);
  unsetenv("TENFOLD_BUCKET_BYTES");
  expect_none(adapted_two);
  expect_same_adaptation(adapted_two, adapted_one);

  ASSERT_EQ(usual.size(), 2u) << "NCCL wrote no log of a rank";
  ASSERT_EQ(small.size(), 2u);
  EXPECT_EQ(usual[0], usual[1]) << "ranks that call for different sums";
  EXPECT_EQ(small[0], small[1]);
  // Called for as often as the step was made ready and captured, whatever the number of its replays.
  const std::int64_t all = summed_by_a_fit(trials);
  const int prepared = usual[0][all];
  ASSERT_GE(prepared, 1) << "one bucket is large enough for " << all << " numbers";
  EXPECT_LT(prepared, 30);
  EXPECT_EQ(small[0].count(all), 0u) << "all gradients in one sum again";
  std::set<std::int64_t> buckets;
  for (const auto& [count, calls] : small[0])
    if (!usual[0].contains(count)) buckets.insert(count);
  EXPECT_GE(buckets.size(), 2u);
  for (const std::int64_t count : buckets) {
    std::printf("a sum of %lld instead of %lld numbers: called for %d times instead of %d\n",
                static_cast<long long>(count), static_cast<long long>(all), small[0][count], prepared);
    EXPECT_EQ(small[0][count] % prepared, 0) << "in some of the steps that were made ready, and not in others";
  }
}

// The GPU of the other rank waits for a sum that never comes: its process ends instead of hanging.
TEST_P(TwoGpus, EndWhenARankIsKilled) {
  const GroupResult result =
      run_group_processes(space_.job(Stage::fit, {{spec(), 0, 0, {}, {}}}, "killed"), {"cuda:0", "cuda:1"}, 1);
  EXPECT_EQ(result.errors[1], "signal 9");
  EXPECT_THAT(result.errors[0], ::testing::AnyOf(::testing::HasSubstr("rank 1"), "exit code 5"));
}

INSTANTIATE_TEST_SUITE_P(
    Models, TwoGpus,
    ::testing::Values(Kind{"mlp", "{kind: synthetic, samples: 230, features: 7, classes: 3, separation: 4, seed: 5}",
                           "{kind: mlp, hidden: [32, 32], norm: layer, dropout: 0.2}"},
                      Kind{"batch_norm",
                           "{kind: synthetic, samples: 230, features: 7, classes: 3, separation: 4, seed: 5}",
                           "{kind: mlp, hidden: [32], norm: batch}"},
                      Kind{"transformer_lm", "",
                           "{kind: transformer_lm, layers: 2, width: 32, heads: 2, ttt: {kind: linear, layers: last:1, "
                           "mini_batch_size: 4}}"}));

}  // namespace
}  // namespace tenfold::testing

// Rank groups over two GPUs by NCCL, a process each as trainers are. Skipped, and said so, with fewer;
// TENFOLD_EXPECT_GPU=1 makes that a failure. This program's own process never touches CUDA: the ranks are forked from
// it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/trainer/array_harness.h"
#include "tests/trainer/gpu.h"
#include "tests/trainer/group_processes.h"

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

TEST_P(TwoGpus, AgreeWithOneAndWithTheCpu) {
  const std::vector<Case> fits = {{spec(), 0, 0, {}, {}}, {spec(), 0, 1, {}, {}}};
  const ArrayJob job = space_.job(Stage::fit, fits, "fit");
  const auto named = [&](const char* name) {
    ArrayJob other = job;
    other.array = name;
    return other;
  };
  const GroupResult cpu = run_group_processes(named("cpu"), {"cpu"});
  const GroupResult one = run_group_processes(named("one"), {"cuda:0"});
  const GroupResult two = run_group_processes(named("two"), {"cuda:0", "cuda:1"});  // compares bits at checkpoints
  expect_none(cpu);
  expect_none(one);
  expect_none(two);
  ASSERT_EQ(two.train_steps.size(), 30u);
  ASSERT_EQ(one.train_steps.size(), 30u);
  expect_close(two.train_steps[0].loss, cpu.train_steps[0].loss, 1e-5, "first loss against the CPU");
  expect_close(two.train_steps[0].loss, one.train_steps[0].loss, 1e-5, "first loss");
  expect_close(two.train_steps[0].grad_norm, one.train_steps[0].grad_norm, 1e-5, "first gradient norm");
  for (std::size_t i = 0; i < 30; ++i) expect_close(two.train_steps[i].loss, one.train_steps[i].loss, 1e-2, "loss");
  EXPECT_GE(two.checkpoints.size(), 3u);

  std::vector<Case> trials = fits;
  for (std::size_t k = 0; k < trials.size(); ++k) {
    const CheckpointNotice& last = cpu.checkpoints.back();
    trials[k].fit = {last.path, static_cast<std::int64_t>(k), last.step, last.sha256};
  }
  const ArrayJob adapt = space_.job(Stage::adapt, trials, "adapt");
  const GroupResult adapted_one = run_group_processes(adapt, {"cuda:0"});
  const GroupResult adapted_two = run_group_processes(adapt, {"cuda:0", "cuda:1"});
  expect_none(adapted_two);
  ASSERT_EQ(adapted_two.ttt_steps.size(), 2u);
  expect_close(adapted_two.ttt_steps[0].total, adapted_one.ttt_steps.at(0).total, 1e-5, "total");
  expect_close(adapted_two.ttt_steps[0].grad_norm, adapted_one.ttt_steps.at(0).grad_norm, 1e-4, "gradient norm");
  ASSERT_EQ(adapted_two.evaluations.size(), adapted_one.evaluations.size());
  for (std::size_t i = 0; i < adapted_two.evaluations.size(); ++i)
    expect_close(adapted_two.evaluations[i].value, adapted_one.evaluations[i].value, 1e-2, "evaluation");
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

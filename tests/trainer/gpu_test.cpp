// The GPU against the CPU, by what may be asked of it: the first step's loss and gradient to 1e-5, the same masks, the
// same course within float32's drift.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "experiments/error.h"
#include "tests/trainer/array_harness.h"
#include "tests/trainer/gpu.h"

namespace tenfold::testing {
namespace {

class Gpu : public GpuTest, public ::testing::WithParamInterface<const char*> {
 protected:
  ExperimentSpec spec() const {
    ExperimentSpec spec = small_spec();
    const std::string kind = GetParam();
    if (kind == "cnn") {
      spec.dataset.kind = "digits";
      spec.model.kind = "cnn";
      spec.model.channels = {4, 8};
      spec.model.hidden = {16};
      spec.train.steps = 20;
    } else if (kind == "sgd") {
      spec.train.optimizer.kind = "sgd";
      spec.train.clip_norm = 0.5;
    } else {
      spec.model.norm = kind;
    }
    return spec;
  }
};

void expect_close(double a, double b, double relative, const char* what) {
  EXPECT_LE(std::abs(a - b), relative * std::max(1e-3, std::abs(b))) << what << ": " << a << " against " << b;
}

TEST_P(Gpu, AgreesWithTheCpu) {
  const Workspace space;
  Engine cpu("cpu", 1), gpu("cuda:0", 1);
  std::vector<Case> cases;
  for (int k = 0; k < 6; ++k) cases.push_back({spec(), 0, k % 4, {}, {}});
  Recorder on_cpu, on_gpu;
  cpu.run(space.job(Stage::fit, cases, "cpu"), on_cpu);
  gpu.run(space.job(Stage::fit, cases, "gpu"), on_gpu);
  for (std::size_t k = 0; k < cases.size(); ++k) {
    const auto& a = on_gpu.members.at(k).train_steps;
    const auto& b = on_cpu.members.at(k).train_steps;
    ASSERT_EQ(a.size(), b.size());
    expect_close(a[0].loss, b[0].loss, 1e-5, "first loss");
    expect_close(a[0].grad_norm, b[0].grad_norm, 1e-5, "first gradient norm");
    expect_close(a[5].loss, b[5].loss, 1e-2, "sixth loss");
    EXPECT_EQ(a.back().lr, b.back().lr);
  }
  for (std::size_t k = 0; k < cases.size(); ++k) cases[k].fit = newest(on_cpu, static_cast<std::int64_t>(k));
  Recorder adapt_cpu, adapt_gpu;
  cpu.run(space.job(Stage::adapt, cases, "adapt-cpu"), adapt_cpu);
  gpu.run(space.job(Stage::adapt, cases, "adapt-gpu"), adapt_gpu);
  for (std::size_t k = 0; k < cases.size(); ++k) {
    const auto& a = adapt_gpu.members.at(k).ttt_steps;
    const auto& b = adapt_cpu.members.at(k).ttt_steps;
    ASSERT_EQ(a.size(), b.size());
    // A pass is several updates: AdamW amplifies rounding from the second on.
    expect_close(a[0].total, b[0].total, 2e-3, "total of the first pass");
    expect_close(a[0].diversity, b[0].diversity, 2e-2, "diversity of the first pass");
    expect_close(adapt_gpu.metric(k, Phase::before, "nll"), adapt_cpu.metric(k, Phase::before, "nll"), 1e-4,
                 "nll before");
  }
}

TEST_P(Gpu, RepeatsItself) {
  const Workspace space;
  Engine gpu("cuda:0", 1);
  Recorder whole, again;
  gpu.run(space.job(Stage::fit, {{spec(), 0, 0, {}, {}}}, "whole"), whole);
  gpu.run(space.job(Stage::fit, {{spec(), 0, 0, {}, {}}}, "again"), again);
  EXPECT_EQ(whole.members.at(0).train_steps.back().loss, again.members.at(0).train_steps.back().loss);
}

using GpuMemory = GpuTest;

// One batch's activations take 160 GB.
TEST_F(GpuMemory, WhereItDoesNotSufficeTheReasonNamesIt) {
  const Workspace space;
  Engine gpu("cuda:0", 1);
  ExperimentSpec large = small_spec();
  large.model.hidden = {100'000};
  large.train.batch_size = 400'000;
  Recorder recorder;
  try {
    gpu.run(space.job(Stage::fit, {{large, 0, 0, {}, {}}}, "large"), recorder);
    ADD_FAILURE() << "it fitted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::device);
    EXPECT_NE(std::string(error.what()).find("out of memory on "), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("batch size"), std::string::npos) << error.what();
  }
  EXPECT_TRUE(recorder.members.empty());
}

INSTANTIATE_TEST_SUITE_P(Models, Gpu, ::testing::Values("layer", "batch", "none", "sgd", "cnn"));

}  // namespace
}  // namespace tenfold::testing

// What an adaptation changes, by the parameters it may change and by the lanes it is computed as.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <map>

#include "datasets/safetensors.h"
#include "experiments/metric.h"
#include "tests/trainer/array_harness.h"
#include "trainer/fold_data.h"
#include "trainer/model.h"
#include "trainer/optimizer.h"
#include "ttt/objective.h"

namespace tenfold::testing {
namespace {

at::Tensor tensor_of(const SafetensorsFile& file, const std::string& name) {
  const TensorView& view = file.tensor(name);
  at::Tensor tensor = at::empty(view.shape, at::kFloat);
  std::memcpy(tensor.mutable_data_ptr(), view.data.data(), view.data.size());
  return tensor;
}

// Two hidden layers (0, 1) and the head (2).
ExperimentSpec deep_spec(const std::string& ttt) {
  ExperimentSpec spec = small_spec(ttt);
  spec.model.hidden = {12, 9};
  return spec;
}

class AdaptedSet : public ::testing::TestWithParam<std::pair<const char*, const char*>> {};

// A method that gives its parameters back unchanged has the fit's predictions: what a checkpoint does not hold is the
// fit's by construction, and what it holds must be the selected set and nothing else.
TEST_P(AdaptedSet, IsWhatACheckpointHoldsAndOnlyItMoves) {
  const auto [pattern, expected] = GetParam();
  const Workspace space;
  ExperimentSpec spec = deep_spec("");
  const Fits fits = fit(space, spec, 1, "fit");
  spec.ttt.parameters = std::vector<std::string>{pattern};
  spec.checkpoint.every_steps = 1;
  const Recorder recorder = run(space, Stage::adapt, {{spec, 0, 0, {}, fits.last[0]}}, "a");
  const SafetensorsFile before = SafetensorsFile::open(fits.last[0].path);
  const SafetensorsFile after = SafetensorsFile::open(recorder.checkpoints.back().path);
  std::string held;
  for (const auto& [name, view] : after.tensors()) {
    if (!name.starts_with("parameter/")) continue;
    held += name.substr(10) + ' ';
    EXPECT_FALSE(at::equal(tensor_of(after, name)[0][0], tensor_of(before, name)[0])) << name;
  }
  EXPECT_EQ(held, expected);
}

INSTANTIATE_TEST_SUITE_P(
    Patterns, AdaptedSet,
    ::testing::Values(std::pair("last:1", "head.bias head.weight "),
                      std::pair("layers:[0]",
                                "layers.0.linear.bias layers.0.linear.weight layers.0.norm.bias layers.0.norm.weight "),
                      std::pair("*.norm.weight", "layers.0.norm.weight layers.1.norm.weight "),
                      std::pair("layers.1.linear.*", "layers.1.linear.bias layers.1.linear.weight "),
                      std::pair("all",
                                "head.bias head.weight layers.0.linear.bias layers.0.linear.weight "
                                "layers.0.norm.bias layers.0.norm.weight layers.1.linear.bias "
                                "layers.1.linear.weight layers.1.norm.bias layers.1.norm.weight ")));

// `reset: batch` against every batch adapted by hand, alone, from the fit.
TEST(ResetByBatch, EqualsEveryBatchAdaptedAlone) {
  const Workspace space;
  ExperimentSpec spec = deep_spec(
      "ttt: {steps: 3, batch_size: 20, lr: 0.02, reset: batch, mode: eval, shuffle: false, schedule: constant, "
      "query_size: 50, clip_norm: 0.7}\n");
  spec.model.dropout = 0;
  spec.checkpoint.every_steps = 1;
  const Fits fits = fit(space, spec, 1, "fit");
  const ArrayJob job = space.job(Stage::adapt, {{spec, 0, 0, {}, fits.last[0]}}, "batches");
  Recorder recorder;
  engine().run(job, recorder);
  const SafetensorsFile file = SafetensorsFile::open(newest(recorder, 0).path);  // after two passes

  FoldStore folds(at::kCPU);
  const auto fold = folds.fold(spec, 0, 0, job.fingerprint, job.cache_folder);
  const auto test_n = static_cast<std::int64_t>(fold->split.test.size());
  std::vector<std::int64_t> query = random_permutation(RandomStream(spec.seed, Purpose::query, 0, 0, 0), test_n);
  query.resize(50);
  std::sort(query.begin(), query.end());

  const auto model = make_model(spec.model, {{7}, 3}, false);
  const auto compute = make_cpu_compute();
  const SafetensorsFile trained = SafetensorsFile::open(fits.last[0].path);
  double first_pass_total = 0;
  for (std::int64_t lane = 0; lane < 3; ++lane) {
    const std::int64_t count = lane < 2 ? 20 : 10;
    const at::Tensor rows = at::tensor(query, at::kLong).narrow(0, lane * 20, count);
    const at::Tensor x = fold->test.values.index_select(0, rows).unsqueeze(0);
    ModelState state;
    for (const ParameterInfo& parameter : model->layout().parameters)
      state.parameters.push_back(tensor_of(trained, "parameter/" + parameter.name).requires_grad_(true));
    const auto objective = make_objective("entropy_diversity", std::vector<TttSpec>{spec.ttt}, at::kCPU);
    StackedOptimizer optimizer(*compute, true, {update_rule(spec.ttt)}, state.parameters);
    for (int pass = 0; pass < 2; ++pass) {
      const at::Tensor logits = model->forward(state, {x, {}}, {});
      const BatchObjective batch = objective->evaluate(logits.detach(), at::ones({1, count}));
      if (pass == 0) first_pass_total += batch.total[0].item<double>() * static_cast<double>(count) / 50;
      optimizer.update(torch::autograd::grad({logits}, state.parameters, {batch.logit_gradient}), at::full({1}, 0.02f),
                       at::ones({1}));
    }
    for (std::size_t i = 0; i < state.parameters.size(); ++i) {
      const std::string name = "parameter/" + model->layout().parameters[i].name;
      const at::Tensor got = tensor_of(file, name)[0][lane];
      EXPECT_LT((got - state.parameters[i].detach()[0]).abs().max().item<double>(), 2e-5) << name << " lane " << lane;
      EXPECT_FALSE(at::equal(got, tensor_of(trained, name)[0])) << name;
    }
  }
  EXPECT_NEAR(recorder.members.at(0).ttt_steps.at(0).total, first_pass_total, 1e-5);
  for (const EvaluationRow& row : recorder.members.at(0).evaluations) EXPECT_EQ(row.total, 50) << to_string(row.phase);
}

// Folds of 57 and 58 samples in batches of 57 are arrays of one or two lanes a member: resuming crosses them.
TEST(ResetByBatch, ResumesInAnArrayWithOtherNumbersOfLanes) {
  const Workspace space;
  const ExperimentSpec spec = small_spec("ttt: {steps: 3, batch_size: 57, lr: 0.01, reset: batch, query_size: all}\n");
  const Fits fits = fit(space, spec, 4, "fit");
  std::vector<Case> cases;
  std::map<std::int64_t, std::size_t> of_size;
  FoldStore folds(at::kCPU);
  const ArrayJob job = space.job(Stage::fit, {{spec, 0, 0, {}, {}}}, "job");
  for (int k = 0; k < 4; ++k) {
    cases.push_back({spec, 0, k, {}, fits.last[static_cast<std::size_t>(k)]});
    const auto fold = folds.fold(spec, 0, k, job.fingerprint, job.cache_folder);
    of_size[static_cast<std::int64_t>(fold->split.test.size())] = static_cast<std::size_t>(k);
  }
  ASSERT_TRUE(of_size.contains(57) && of_size.contains(58));
  const Case small = cases[of_size[57]], large = cases[of_size[58]];
  const Recorder whole = run(space, Stage::adapt, {small, large}, "whole");
  // One look is at the evaluation before adaptation.
  const Recorder first = run(space, Stage::adapt, {small, large}, "first", 1);
  Case resumed = small;
  resumed.resume = newest(first, 0);
  const Recorder alone = run(space, Stage::adapt, {resumed}, "alone");
  expect_equal(whole.members.at(0), joined(first.members.at(0), alone.members.at(0)));
  // And back: from an array of one lane into one of two.
  const Recorder first_small = run(space, Stage::adapt, {small}, "first-small", 1);
  resumed.resume = newest(first_small, 0);
  Case resumed_large = large;
  resumed_large.resume = newest(first, 1);
  const Recorder both = run(space, Stage::adapt, {resumed, resumed_large}, "both");
  expect_equal(whole.members.at(0), joined(first_small.members.at(0), both.members.at(0)));
  expect_equal(whole.members.at(1), joined(first.members.at(1), both.members.at(1)));
}

TEST(Query, AdaptsOnItsShareAndMeasuresTheWholeFold) {
  const Workspace space;
  ExperimentSpec spec = small_spec("ttt: {steps: 2, batch_size: 8, lr: 0.01, query_size: 21}\n");
  const Fits fits = fit(space, spec, 1, "fit");
  const Recorder recorder = run(space, Stage::adapt, {{spec, 0, 0, {}, fits.last[0]}}, "a");
  for (const EvaluationRow& row : recorder.members.at(0).evaluations)
    EXPECT_EQ(row.total, row.phase == Phase::online ? 21 : 58) << to_string(row.phase);
}

}  // namespace
}  // namespace tenfold::testing

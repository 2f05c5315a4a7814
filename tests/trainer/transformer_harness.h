#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "tests/trainer/tensors.h"
#include "trainer/compute.h"
#include "trainer/transformer_lm.h"

// Small transformers with parameters far from their initial values, and what every model must keep.
namespace tenfold::testing {

// Before the first matrix product: it settles how MKL computes (compute_cpu.cpp). One thread, as trainers have.
[[maybe_unused]] inline const std::unique_ptr<Compute> cpu_settled = [] {
  at::set_num_threads(1);
  return make_cpu_compute();
}();

inline constexpr std::int64_t kVocabulary = 11;

inline ModelSpec small_transformer() {
  ModelSpec spec;
  spec.kind = "transformer_lm";
  spec.layers = 2;
  spec.width = 16;
  spec.heads = 2;
  spec.feed_forward = 24;
  return spec;
}

inline std::unique_ptr<Model> small_model(const ModelSpec& spec) {
  return make_transformer_lm(spec, {{1}, kVocabulary, SampleKind::tokens, LabelKind::next_token});
}

// Parameters of `members`, far enough from their initial values that every part of the model shows in its output.
inline ModelState random_state(const Model& model, std::int64_t members, at::ScalarType type) {
  ModelState state;
  std::uint64_t site = 100;
  for (const ParameterInfo& parameter : model.layout().parameters) {
    std::vector<std::int64_t> shape{members};
    shape.insert(shape.end(), parameter.shape.begin(), parameter.shape.end());
    const bool norm = parameter.role == ParameterRole::norm_weight;
    const double scale = norm ? 0.2 : parameter.name.find("embed") != std::string::npos ? 1.0 : 0.3;
    state.parameters.push_back(normal(shape, ++site).mul_(scale).add_(norm ? 1.0 : 0.0).to(type));
  }
  return state;
}

inline at::Tensor tokens_of(std::int64_t members, std::int64_t batch, std::int64_t length, std::uint64_t site) {
  return normal({members, batch, length}, site).abs().mul(1000).to(at::kLong).remainder(kVocabulary);
}

inline Batch batch_of(const at::Tensor& tokens) { return {tokens, at::ones(tokens.sizes(), at::kFloat)}; }

// All gradients for an upstream gradient at the logits; undefined where none is wanted or none comes.
inline std::vector<at::Tensor> gradients(const Model& model, ModelState state, const Batch& batch,
                                         const at::Tensor& upstream) {
  for (at::Tensor& parameter : state.parameters) parameter = parameter.detach().clone().requires_grad_(true);
  const at::Tensor logits = model.forward(state, batch, {});
  return torch::autograd::grad({logits}, state.parameters, {upstream});
}

// Directional derivatives of sum(logits * upstream), one along each parameter.
inline void expect_gradient(const ModelSpec& spec) {
  const auto model = small_model(spec);
  const ModelState state = random_state(*model, 1, at::kDouble);
  const at::Tensor tokens = tokens_of(1, 2, 9, 6);
  const at::Tensor upstream = normal({1, 18, kVocabulary}, 7).to(at::kDouble);
  const auto analytic = gradients(*model, state, batch_of(tokens), upstream);
  constexpr double kStep = 1e-5;
  for (std::size_t i = 0; i < state.parameters.size(); ++i) {
    const at::Tensor direction = normal(state.parameters[i].sizes().vec(), 300 + i).to(at::kDouble);
    const auto value = [&](double step) {
      ModelState moved = state;
      moved.parameters[i] = state.parameters[i] + direction * step;
      return (model->forward(moved, batch_of(tokens), {}) * upstream).sum().item<double>();
    };
    const double numeric = (value(kStep) - value(-kStep)) / (2 * kStep);
    const double exact = (analytic[i] * direction).sum().item<double>();
    EXPECT_NEAR(exact, numeric, 1e-6 * std::max(1.0, std::abs(numeric))) << model->layout().parameters[i].name;
  }
}

// Logits and gradients of a member, alone and in an array of four.
inline void expect_same_bits(const ModelSpec& spec, std::int64_t batch, std::int64_t length) {
  constexpr std::int64_t kMembers = 4;
  const auto model = small_model(spec);
  const ModelState state = random_state(*model, kMembers, at::kFloat);
  const at::Tensor tokens = tokens_of(kMembers, batch, length, 10);
  const at::Tensor upstream = normal({kMembers, batch * length, kVocabulary}, 11);
  ModelState whole_state = state;
  const at::Tensor whole = model->forward(whole_state, batch_of(tokens), {});
  const auto whole_gradients = gradients(*model, state, batch_of(tokens), upstream);
  for (const std::int64_t k : {0, 1, 3}) {
    ModelState one;
    for (const at::Tensor& parameter : state.parameters) one.parameters.push_back(parameter.narrow(0, k, 1).clone());
    const Batch own = batch_of(tokens.narrow(0, k, 1).clone());
    EXPECT_TRUE(at::equal(model->forward(one, own, {})[0], whole[k])) << "logits of " << k;
    const auto alone = gradients(*model, one, own, upstream.narrow(0, k, 1).clone());
    for (std::size_t i = 0; i < alone.size(); ++i)
      EXPECT_TRUE(at::equal(alone[i][0], whole_gradients[i][k])) << model->layout().parameters[i].name << " of " << k;
  }
}

}  // namespace tenfold::testing

// Transformers and groups of parameters on a GPU against the CPU.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "tests/trainer/gpu.h"
#include "tests/trainer/transformer_harness.h"
#include "trainer/optimizer.h"

namespace tenfold::testing {
namespace {

using LanguageGpu = GpuTest;

std::vector<at::Tensor> moved(const std::vector<at::Tensor>& tensors, const at::Device& device) {
  std::vector<at::Tensor> copies;
  for (const at::Tensor& tensor : tensors) copies.push_back(tensor.to(device).clone());
  return copies;
}

// Parameters, norms and counts after some updates, the second member at rest.
std::vector<at::Tensor> updated(const std::string& device, const std::string& kind, const OptimizerGroups& groups) {
  const auto compute = make_compute(device);
  OptimizerSpec spec;
  spec.kind = kind;
  std::vector<at::Tensor> parameters =
      moved({normal({3, 60, 50}, 1), normal({3, 33}, 2), normal({3, 400'000}, 3)}, compute->device());
  StackedOptimizer optimizer(*compute, kind != "sgd", std::vector<UpdateRule>(3, update_rule(spec, 5.0)), parameters,
                             groups);
  at::Tensor norm;
  for (std::uint64_t step = 0; step < 3; ++step) {
    const auto gradients =
        moved({normal({3, 60, 50}, 10 + step), normal({3, 33}, 20 + step), normal({3, 400'000}, 30 + step)},
              compute->device());
    norm = optimizer.update(gradients, at::tensor({0.01f, 0.02f, 0.03f}).to(compute->device()),
                            at::tensor({1.0f, 0.0f, 1.0f}).to(compute->device()));
  }
  parameters.push_back(norm);
  if (groups.norms) {
    parameters.push_back(optimizer.group_grad_norms());
    parameters.push_back(optimizer.group_update_norms());
  }
  return moved(parameters, at::kCPU);
}

TEST_F(LanguageGpu, UpdatesGroupsAsTheCpuDoes) {
  const std::vector<ParameterGroup> of = {ParameterGroup::base, ParameterGroup::gate, ParameterGroup::ttt};
  const GroupFactors first = {0, 1, 3, 1}, other = {1, 0.5, 2, 1};
  for (const char* kind : {"sgd", "adamw"})
    for (const bool norms : {false, true}) {
      const OptimizerGroups groups{of, {first, other, other}, norms};
      const auto cpu = updated("cpu", kind, groups), gpu = updated("cuda:0", kind, groups);
      ASSERT_EQ(cpu.size(), gpu.size());
      for (std::size_t i = 0; i < cpu.size(); ++i) EXPECT_LT(relative_error(gpu[i], cpu[i]), 1e-5) << kind << ' ' << i;
      EXPECT_TRUE(at::equal(gpu[0][0], normal({3, 60, 50}, 1)[0])) << "a rate of 0 keeps every bit";
      EXPECT_TRUE(at::equal(gpu[2][1], normal({3, 400'000}, 3)[1])) << "so does rest";
    }
  // Bits do not depend on whether groups are told apart.
  const GroupFactors ones = {1, 1, 1, 1};
  const auto plain = updated("cuda:0", "adamw", {}),
             grouped = updated("cuda:0", "adamw", {of, {ones, ones, ones}, true});
  for (std::size_t i = 0; i < plain.size(); ++i) EXPECT_TRUE(at::equal(plain[i], grouped[i])) << i;
}

void expect_agreement(const ModelSpec& spec) {
  const auto cpu = make_compute("cpu"), gpu = make_compute("cuda:0");
  const auto model = small_model(spec);
  const ModelState state = random_state(*model, 3, at::kFloat);
  const at::Tensor tokens = tokens_of(3, 4, 21, 5), upstream = normal({3, 84, kVocabulary}, 6);
  const auto results = [&](const at::Device& device) {
    ModelState there{moved(state.parameters, device), {}};
    Batch batch = batch_of(tokens);
    batch.x = batch.x.to(device);
    batch.step_weight = batch.step_weight.to(device);
    std::vector<at::Tensor> all = gradients(*model, there, batch, upstream.to(device));
    at::NoGradGuard no_grad;
    all.push_back(model->forward(there, batch, {}));
    return moved(all, at::kCPU);
  };
  const auto there = results(gpu->device()), here = results(at::kCPU);
  for (std::size_t i = 0; i < here.size(); ++i)
    EXPECT_LT(relative_error(there[i], here[i]), 1e-4)
        << (i + 1 < here.size() ? model->layout().parameters[i].name : "logits");
}

TEST_F(LanguageGpu, ComputesTransformersAsTheCpuDoes) {
  ModelSpec spec = small_transformer();
  spec.lora.rank = 2;
  expect_agreement(spec);
  for (const char* kind : {"linear", "mlp"}) {
    spec.ttt.kind = kind;
    spec.ttt.layers = {"all"};
    spec.ttt.mini_batch_size = 4;
    expect_agreement(spec);
  }
}

// A training step as arrays repeat it: nothing in it may wait for the host.
TEST_F(LanguageGpu, CapturesATrainingStep) {
  const auto compute = make_compute("cuda:0");
  ModelSpec spec = small_transformer();
  spec.ttt.layers = {"-1"};
  spec.ttt.mini_batch_size = 4;
  const auto model = small_model(spec);
  ModelState state{moved(random_state(*model, 2, at::kFloat).parameters, compute->device()), {}};
  for (at::Tensor& parameter : state.parameters) parameter.requires_grad_(true);
  std::vector<ParameterGroup> groups;
  for (const ParameterInfo& parameter : model->layout().parameters) groups.push_back(parameter.group);
  StackedOptimizer optimizer(*compute, true, std::vector<UpdateRule>(2, update_rule(OptimizerSpec{}, 1.0)),
                             state.parameters, {groups, {}, true});
  const at::Tensor tokens = tokens_of(2, 4, 21, 5).to(compute->device());
  const at::Tensor lr = at::full({2}, 1e-2, tokens.options().dtype(at::kFloat)), active = at::zeros_like(lr);
  at::Tensor loss = at::zeros_like(lr);
  StepCounter counter = compute->make_counter();
  const auto step = compute->repeatable(
      [&] {
        const at::Tensor logits = model->forward(state, {tokens, at::ones(tokens.sizes(), lr.options())}, {});
        const at::Tensor losses = logits.square().mean(-1).mean(-1);
        optimizer.update(torch::autograd::grad({losses.sum()}, state.parameters), lr, active);
        loss.copy_(losses.detach());
      },
      counter);
  active.fill_(1);
  step();
  compute->synchronise();
  const at::Tensor first = loss.cpu();
  for (int i = 0; i < 20; ++i) step();
  compute->synchronise();
  for (int k = 0; k < 2; ++k) EXPECT_LT(loss[k].item<float>(), 0.9f * first[k].item<float>());
  EXPECT_GT(optimizer.group_update_norms().select(1, static_cast<int>(ParameterGroup::gate)).min().item<float>(), 0);
}

}  // namespace
}  // namespace tenfold::testing

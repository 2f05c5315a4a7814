// The TTT-RNN layer: against the reference program's values, inner gradients against autograd, options by their
// properties, padding without effect, and the same bits whatever the array's size.
#include "ttt/ttt_rnn.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>

#include "datasets/safetensors.h"
#include "tests/ttt/ttt_rnn_reference.h"

namespace tenfold::testing {
namespace {

std::filesystem::path golden_file() {
  const char* root = std::getenv("TENFOLD_SOURCE_DIR");
  return std::filesystem::path(root != nullptr ? root : ".") / "tests/golden/ttt_rnn.safetensors";
}

class Golden : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  at::Tensor read(const std::string& name) const {
    const TensorView& view = file_.tensor(name);
    at::Tensor values = at::empty(view.shape, view.dtype == "I64" ? at::kLong : at::kDouble);
    std::memcpy(values.mutable_data_ptr(), view.data.data(), view.data.size());
    return values;
  }
  // (1, ...): one member. Biases lose nothing, initial_state keeps its row.
  at::Tensor weight(const std::string& name) {
    at::Tensor& value = weights_[name];
    if (!value.defined()) value = read("weights." + name).to(GetParam()).unsqueeze(0).requires_grad_(true);
    return value;
  }
  TttRnnWeights layer(int i) {
    const auto of = [&](const std::string& name) { return weight("layers." + std::to_string(i) + "." + name); };
    TttRnnWeights w{
        of("phi.weight"),     of("phi.bias"),         of("psi.weight"),     of("psi.bias"), of("encoder.0.weight"),
        of("encoder.0.bias"), of("encoder.1.weight"), of("encoder.1.bias"), of("g.weight"), of("g.bias"),
        of("h.weight"),       of("h.bias"),           of("ln.weight"),      of("ln.bias"),  {}};
    if (i == 0) w.initial_state = weight("initial_state");
    return w;
  }
  SafetensorsFile file_ = SafetensorsFile::open(golden_file());
  std::map<std::string, at::Tensor> weights_;
};

TEST_P(Golden, LogitsInnerLossesAndEveryGradientAreTheReferences) {
  const bool exact = GetParam() == at::kDouble;
  const double tolerance = exact ? 1e-9 : 1e-4;
  TttRnnOptions options;
  options.inner_iterations = 2;
  const at::Tensor rate = at::full({1}, 0.3, GetParam());
  at::Tensor x = read("input").to(GetParam()).unsqueeze(0);
  const at::Tensor expected_losses = read("inner_loss");
  for (int i = 0; i < 2; ++i) {
    TttRnnLosses losses;
    x = ttt_rnn(x, layer(i), rate, {}, options, &losses);
    for (int j = 0; j < 2; ++j) {
      const at::Tensor got = losses.iteration[static_cast<std::size_t>(j)].mean(1).flatten();  // over the batch
      EXPECT_LT(relative_error(got, expected_losses[i].select(1, j)), tolerance) << "layer " << i << " iteration " << j;
    }
  }
  const at::Tensor logits =
      (x.flatten(0, 2).mm(weight("readout.weight")[0]) + weight("readout.bias")[0]).view({3, 7, 5});
  EXPECT_LT(relative_error(logits, read("logits")), tolerance);
  const at::Tensor loss = -at::log_softmax(logits, -1).gather(-1, read("labels").unsqueeze(-1)).mean();
  EXPECT_LT(relative_error(loss.view({1}), read("loss")), tolerance);
  std::vector<at::Tensor> leaves;
  for (const auto& [name, value] : weights_) leaves.push_back(value);
  ASSERT_EQ(leaves.size(), 31u);  // every weight of the file
  const auto gradients = torch::autograd::grad({loss}, leaves);
  std::size_t i = 0;
  for (const auto& [name, value] : weights_)
    EXPECT_LT(relative_error(gradients[i++][0], read("grad." + name)), tolerance) << name;
}

INSTANTIATE_TEST_SUITE_P(Precisions, Golden, ::testing::Values(at::kDouble, at::kFloat),
                         [](const auto& info) { return info.param == at::kDouble ? "float64" : "float32"; });

// Options and sizes that are tried against the plain reference.
struct Case {
  std::string name;
  TttRnnOptions options;
  bool masked = false;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const bool two_layers : {true, false})
    for (const bool per_sequence : {false, true})
      for (const bool persistent : {false, true})
        for (const int inner : {1, 2, 3})
          for (const bool masked : {false, true}) {
            TttRnnOptions o;
            o.two_layers = two_layers;
            o.per_sequence = per_sequence;
            o.persistent = persistent;
            o.inner_iterations = inner;
            o.decoder_ln = inner != 3;
            o.reverse = masked == two_layers;
            all.push_back({std::string(two_layers ? "mlp2" : "mlp1") + (per_sequence ? "_sequence" : "_batch") +
                               (persistent ? "_persistent" : "_reset") + std::to_string(inner) +
                               (masked ? "_masked" : ""),
                           o, masked});
            if (inner == 1) continue;
            o.window = 3;
            o.use_sgd = inner == 2;
            all.push_back({all.back().name + "_window", o, masked});
          }
  return all;
}

class Options : public ::testing::TestWithParam<Case> {
 protected:
  Example example() const { return make_example(GetParam().options, GetParam().masked, /*members=*/2); }
};

TEST_P(Options, AreTheFormulasDifferentiatedByAutograd) {
  const Example e = example();
  const Outcome got = run_layer(e, GetParam().options);
  const Outcome expected = run_reference(e, GetParam().options);
  EXPECT_LT(relative_error(got.states, expected.states), 1e-10);
  EXPECT_LT(relative_error(got.losses.l0, expected.losses.l0), 1e-10);
  EXPECT_LT(relative_error(got.losses.lprev, expected.losses.lprev), 1e-10);
  EXPECT_LT(relative_error(got.losses.lafter, expected.losses.lafter), 1e-10);
  ASSERT_EQ(got.gradients.size(), expected.gradients.size());
  for (std::size_t i = 0; i < got.gradients.size(); ++i)
    EXPECT_LT(relative_error(got.gradients[i], expected.gradients[i]), 1e-9) << e.names[i];
}

TEST_P(Options, GiveTheSameStatesWithAutogradSwitchedOff) {
  const Example e = example();
  const Outcome with = run_layer(e, GetParam().options);
  c10::NoGradGuard no_grad;
  const at::Tensor without = ttt_rnn(e.x, e.weights(), e.base_lr, e.step_weight, GetParam().options);
  EXPECT_TRUE(at::equal(with.states, without));
}

TEST_P(Options, ArePermutedWithTheirBatch) {
  const Example e = example();
  const at::Tensor order = at::tensor({2, 0, 3, 1}, at::kLong);
  Example permuted = e;
  permuted.x = e.x.index_select(1, order);
  if (e.step_weight.defined()) permuted.step_weight = e.step_weight.index_select(1, order);
  const at::Tensor states = ttt_rnn(e.x, e.weights(), e.base_lr, e.step_weight, GetParam().options);
  const at::Tensor other = ttt_rnn(permuted.x, e.weights(), e.base_lr, permuted.step_weight, GetParam().options);
  EXPECT_LT(relative_error(other, states.index_select(1, order)), 1e-11);
}

INSTANTIATE_TEST_SUITE_P(All, Options, ::testing::ValuesIn(cases()), [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace tenfold::testing

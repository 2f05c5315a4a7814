// The recurrent models: parameters and their count, gates against their formulas, options that reach the layer, and
// padding, dropout and other members without effect where they must have none.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>

#include <cmath>
#include <functional>
#include <limits>

#include "experiments/error.h"
#include "tests/trainer/tensors.h"
#include "trainer/compute.h"
#include "trainer/model.h"
#include "trainer/recurrent_cells.h"
#include "ttt/inner_loss.h"

namespace tenfold::testing {
namespace {

[[maybe_unused]] const std::unique_ptr<Compute> cpu = make_cpu_compute();

ModelSpec spec_of(const std::string& kind, int units, int layers = 2) {
  ModelSpec spec;
  spec.kind = kind;
  spec.units = units;
  spec.layers = layers;
  return spec;
}

ModelData data_of(std::int64_t features, int classes, LabelKind label = LabelKind::step) {
  return {{features}, classes, SampleKind::sequence, label};
}

std::vector<std::string> names(const ModelLayout& layout) {
  std::vector<std::string> all;
  for (const ParameterInfo& parameter : layout.parameters) all.push_back(parameter.name);
  return all;
}

TEST(RecurrentLayout, CountsWhatThePublishedTttRnnHas) {
  EXPECT_EQ(model_layout(spec_of("ttt_rnn", 256), {512}, 40).parameter_count(), 1982248);
}

TEST(RecurrentLayout, NamesTheParametersOfEveryKind) {
  ModelSpec spec = spec_of("ttt_rnn", 4, 1);
  EXPECT_EQ(names(model_layout(spec, {3}, 2)),
            (std::vector<std::string>{"initial_state", "layers.0.phi.weight", "layers.0.phi.bias",
                                      "layers.0.psi.weight", "layers.0.psi.bias", "layers.0.encoder.0.weight",
                                      "layers.0.encoder.0.bias", "layers.0.encoder.1.weight", "layers.0.encoder.1.bias",
                                      "layers.0.g.weight", "layers.0.g.bias", "layers.0.h.weight", "layers.0.h.bias",
                                      "layers.0.ln.weight", "layers.0.ln.bias", "readout.weight", "readout.bias"}));
  spec.ttt.encoder = "mlp_1";
  spec.ttt.decoder_ln = false;
  EXPECT_EQ(names(model_layout(spec, {3}, 2)).size(), 13u);
  spec = spec_of("gru", 4, 2);
  spec.bidirectional = true;
  const ModelLayout gru = model_layout(spec, {3}, 2);
  ASSERT_EQ(gru.parameters.size(), 18u);
  EXPECT_EQ(gru.parameters[4].name, "layers.0.reverse.input.weight");
  EXPECT_EQ(gru.parameters[8].shape, (std::vector<std::int64_t>{8, 12}));  // both directions below
  EXPECT_EQ(gru.parameters[16].shape, (std::vector<std::int64_t>{8, 2}));
  EXPECT_EQ(gru.layers, 3);
  // As torch.nn.LSTM(3, 4) and a linear layer.
  EXPECT_EQ(model_layout(spec_of("lstm", 4, 1), {3}, 2).parameter_count(), 16 * (3 + 4 + 2) + 4 * 2 + 2);
}

TEST(RecurrentLayout, PutsTheLayersOfATttRnnIntoTheirGroup) {
  const ModelLayout layout = model_layout(spec_of("ttt_rnn", 4), {3}, 2);
  const std::vector<bool> ttt = select_parameters(layout, {"ttt"}), head = select_parameters(layout, {"readout.*"});
  for (std::size_t i = 0; i < ttt.size(); ++i) EXPECT_NE(ttt[i], head[i]) << layout.parameters[i].name;
}

TEST(RecurrentModel, SaysWhatItCannotTake) {
  const auto message = [](const std::function<void()>& body) -> std::string {
    try {
      body();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::config);
      return error.what();
    }
    return "";
  };
  ModelData fixed = data_of(3, 2);
  fixed.kind = SampleKind::fixed;
  EXPECT_NE(message([&] { make_recurrent_model(spec_of("gru", 4), fixed); }).find("use mlp or cnn"), std::string::npos);
  fixed.kind = SampleKind::tokens;
  EXPECT_NE(message([&] { make_recurrent_model(spec_of("gru", 4), fixed); }).find("use ttt_lm"), std::string::npos);
  EXPECT_NE(message([&] { model_layout(spec_of("ttt_rnn", 0), {3}, 2); }).find("model.units"), std::string::npos);
  EXPECT_NE(message([&] { model_layout(spec_of("lstm", 4), {3}, 1); }).find("2 classes"), std::string::npos);
  ModelSpec spec = spec_of("ttt_rnn", 4);
  spec.ttt.inner_window = "window";
  spec.ttt.sequence_length = 2;
  spec.ttt.inner_iterations = 3;
  EXPECT_NE(message([&] { model_layout(spec, {3}, 2); }).find("use_sgd: false"), std::string::npos);
}

TEST(RecurrentModel, MixesSamplesWhereTheInnerGradientIsTheBatchs) {
  ModelSpec spec = spec_of("ttt_rnn", 4);
  EXPECT_TRUE(make_recurrent_model(spec, data_of(3, 2))->mixes_samples());
  spec.ttt.inner = "per_sequence";
  EXPECT_FALSE(make_recurrent_model(spec, data_of(3, 2))->mixes_samples());
  EXPECT_FALSE(make_recurrent_model(spec_of("gru", 4), data_of(3, 2))->mixes_samples());
}

// Cells one step, member and sequence at a time, differentiated by autograd.
at::Tensor plain_cell(const std::string& kind, const at::Tensor& x, const layers::CellWeights& w,
                      const at::Tensor& real, bool reverse) {
  const std::int64_t members = x.size(0), batch = x.size(1), steps = x.size(2), units = w.hidden.size(1);
  std::vector<at::Tensor> all;
  for (std::int64_t k = 0; k < members; ++k)
    for (std::int64_t b = 0; b < batch; ++b) {
      at::Tensor h = at::zeros({units}, x.options()), c = h;
      std::vector<at::Tensor> states(static_cast<std::size_t>(steps), at::zeros({units}, x.options()));
      for (std::int64_t i = 0; i < steps; ++i) {
        const std::int64_t t = reverse ? steps - 1 - i : i;
        if (real.defined() && real[k][b][t].item<double>() == 0) continue;
        const auto in = (x[k][b][t].matmul(w.input[k]) + w.input_bias[k]).split(units);
        const auto back = (h.matmul(w.hidden[k]) + w.hidden_bias[k]).split(units);
        if (kind == "gru") {
          const at::Tensor r = (in[0] + back[0]).sigmoid(), z = (in[1] + back[1]).sigmoid();
          h = (1 - z) * (in[2] + r * back[2]).tanh() + z * h;
        } else {
          c = (in[1] + back[1]).sigmoid() * c + (in[0] + back[0]).sigmoid() * (in[2] + back[2]).tanh();
          h = (in[3] + back[3]).sigmoid() * c.tanh();
        }
        states[static_cast<std::size_t>(t)] = h;
      }
      all.push_back(at::stack(states));
    }
  return at::stack(all).view({members, batch, steps, units});
}

class Cell : public ::testing::TestWithParam<std::tuple<std::string, bool, bool>> {};
TEST_P(Cell, IsItsFormulaDifferentiatedByAutograd) {
  const auto& [kind, reverse, masked] = GetParam();
  const std::int64_t gates = kind == "gru" ? 3 : 4;
  std::vector<at::Tensor> leaves = {normal({2, 3, 5, 4}, 1), normal({2, 4, gates * 6}, 2), normal({2, gates * 6}, 3),
                                    normal({2, 6, gates * 6}, 4), normal({2, gates * 6}, 5)};
  for (at::Tensor& leaf : leaves) leaf = leaf.to(at::kDouble).mul_(0.6).requires_grad_(true);
  at::Tensor real;
  if (masked) {
    real = at::ones({2, 3, 5}, at::kDouble);
    real[0][1].narrow(0, 3, 2).zero_();
    real[1][2].zero_();
  }
  const layers::CellWeights weights{leaves[1], leaves[2], leaves[3], leaves[4]};
  const at::Tensor got =
      kind == "gru" ? layers::gru(leaves[0], weights, real, reverse) : layers::lstm(leaves[0], weights, real, reverse);
  const at::Tensor expected = plain_cell(kind, leaves[0], weights, real, reverse);
  EXPECT_LT(relative_error(got, expected), 1e-12);
  const at::Tensor upstream = normal({2, 3, 5, 6}, 9).to(at::kDouble);
  const auto d = torch::autograd::grad({got}, leaves, {upstream});
  const auto d_expected = torch::autograd::grad({expected}, leaves, {upstream});
  for (std::size_t i = 0; i < d.size(); ++i) EXPECT_LT(relative_error(d[i], d_expected[i]), 1e-11) << i;
  c10::NoGradGuard no_grad;
  EXPECT_TRUE(at::equal(got.detach(), kind == "gru" ? layers::gru(leaves[0], weights, real, reverse)
                                                    : layers::lstm(leaves[0], weights, real, reverse)));
}
INSTANTIATE_TEST_SUITE_P(All, Cell,
                         ::testing::Combine(::testing::Values("gru", "lstm"), ::testing::Bool(), ::testing::Bool()));

// A model with its parameters, on some batch.
struct Prepared {
  std::unique_ptr<Model> model;
  ModelState state;
  Batch batch;
};
Prepared prepare(const ModelSpec& spec, LabelKind label, std::int64_t members, std::int64_t batch, std::int64_t steps) {
  Prepared s{make_recurrent_model(spec, data_of(3, 4, label)), {}, {}};
  std::uint64_t site = 10;
  for (const ParameterInfo& parameter : s.model->layout().parameters) {
    std::vector<std::int64_t> shape = parameter.shape;
    shape.insert(shape.begin(), members);
    s.state.parameters.push_back(normal(shape, ++site).mul_(0.9 / std::sqrt(spec.units)));
  }
  s.batch.x = normal({members, batch, steps, 3}, 1);
  s.batch.step_weight = at::ones({members, batch, steps});
  return s;
}

struct ModelCase {
  std::string name;
  ModelSpec spec;
  LabelKind label;
};
void PrintTo(const ModelCase& c, std::ostream* out) { *out << c.name; }
std::vector<ModelCase> model_cases() {
  std::vector<ModelCase> all;
  for (const std::string kind : {"ttt_rnn", "gru", "lstm"})
    for (const bool bidirectional : {false, true})
      for (const LabelKind label : {LabelKind::step, LabelKind::sample}) {
        ModelSpec spec = spec_of(kind, 5);
        spec.bidirectional = bidirectional;
        spec.ttt.inner_iterations = 2;
        spec.ttt.base_lr = 0.2;
        all.push_back({kind + (bidirectional ? "_both" : "_one") + (label == LabelKind::step ? "_steps" : "_samples"),
                       spec, label});
        if (kind != "ttt_rnn") continue;
        spec.ttt.inner_window = "window";
        spec.ttt.sequence_length = 4;
        all.push_back({all.back().name + "_window", spec, label});
      }
  return all;
}

class Models : public ::testing::TestWithParam<ModelCase> {};

TEST_P(Models, AreNotChangedByPadding) {
  // Two real sequences of 5 and 3 steps; then the same with two steps and one sequence of padding, full of numbers.
  Prepared s = prepare(GetParam().spec, GetParam().label, 2, 2, 5);
  s.batch.step_weight.select(1, 1).narrow(1, 3, 2).zero_();
  Batch padded;
  padded.x = at::full({2, 3, 7, 3}, 1e3f);
  padded.x.narrow(1, 0, 2).narrow(2, 0, 5).copy_(s.batch.x);
  padded.x.select(1, 1).narrow(1, 3, 4).fill_(std::numeric_limits<float>::quiet_NaN());
  padded.step_weight = at::zeros({2, 3, 7});
  padded.step_weight.narrow(1, 0, 2).narrow(2, 0, 5).copy_(s.batch.step_weight);
  for (at::Tensor& parameter : s.state.parameters) parameter = parameter.to(at::kDouble).requires_grad_(true);
  const auto run = [&](const Batch& batch) {
    at::Tensor logits = s.model->forward(s.state, {batch.x.to(at::kDouble), batch.step_weight}, {});
    if (GetParam().label == LabelKind::step)
      logits = logits.view({2, batch.x.size(1), batch.x.size(2), 4}).narrow(2, 0, 5) *
               batch.step_weight.narrow(2, 0, 5).unsqueeze(-1);
    logits = logits.narrow(1, 0, 2);
    std::vector<at::Tensor> out =
        torch::autograd::grad({logits}, s.state.parameters, {normal(logits.sizes().vec(), 77).to(at::kDouble)});
    out.push_back(logits.detach());
    return out;
  };
  const auto expected = run(s.batch), got = run(padded);
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_LT(relative_error(got[i], expected[i]), 1e-10) << i;
}

TEST_P(Models, GiveAMemberTheSameBitsInAnyArray) {
  ModelSpec spec = GetParam().spec;
  spec.units = 32;
  Prepared s = prepare(spec, GetParam().label, 5, 8, 6);
  s.batch.step_weight.select(1, 3).narrow(1, 4, 2).zero_();
  const at::Tensor rates = at::tensor({0.1f, 0.2f, 0.3f, 0.05f, 0.0f});
  const auto run = [&](std::int64_t first, std::int64_t members) {
    const auto of = [&](const at::Tensor& all) { return all.narrow(0, first, members).clone(); };
    ModelState state;
    for (const at::Tensor& parameter : s.state.parameters)
      state.parameters.push_back(of(parameter).requires_grad_(true));
    ForwardMode mode;
    mode.base_lr = of(rates);
    const at::Tensor logits = s.model->forward(state, {of(s.batch.x), of(s.batch.step_weight)}, mode);
    std::vector<std::int64_t> shape = logits.sizes().vec();
    shape[0] = 5;
    std::vector<at::Tensor> out = torch::autograd::grad({logits}, state.parameters, {of(normal(shape, 77))});
    out.push_back(logits.detach());
    return out;
  };
  const auto whole = run(0, 5), one = run(3, 1), two = run(2, 2);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    EXPECT_TRUE(at::equal(whole[i][3], one[i][0])) << i;
    EXPECT_TRUE(at::equal(whole[i][3], two[i][1])) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Models, ::testing::ValuesIn(model_cases()),
                         [](const auto& info) { return info.param.name; });

TEST(RecurrentModel, DropsUnitsOfEveryLayerAndOfTheReadoutsInput) {
  for (const LabelKind label : {LabelKind::step, LabelKind::sample}) {
    Prepared s = prepare(spec_of("gru", 5), label, 1, 2, 4);
    const StepCounter counter = cpu->make_counter();
    const auto run = [&](float probability) {
      DropoutMasks masks(
          *cpu, {{PhiloxKey{1, 2}}, {probability}, {}, {}, at::zeros({1, 1}, at::kLong), at::zeros({1, 1}, at::kLong)});
      ForwardMode mode;
      mode.dropout = &masks;
      mode.counter = &counter;
      return s.model->forward(s.state, s.batch, mode);
    };
    const at::Tensor whole = s.model->forward(s.state, s.batch, {});
    EXPECT_TRUE(at::equal(run(0), whole));
    EXPECT_TRUE(at::equal(run(0.5f), run(0.5f)));
    EXPECT_FALSE(at::allclose(run(0.5f), whole));
    // Everything dropped: what is left is the readout's bias.
    EXPECT_TRUE(at::equal(run(1), s.state.parameters.back().unsqueeze(1).expand_as(whole)));
  }
}

TEST(RecurrentModel, TakesTheInnerRateOfEachMember) {
  ModelSpec spec = spec_of("ttt_rnn", 5);
  spec.ttt.base_lr = 0.3;
  Prepared s = prepare(spec, LabelKind::step, 2, 2, 4);
  const at::Tensor own = s.model->forward(s.state, s.batch, {});
  ForwardMode mode;
  mode.base_lr = at::tensor({0.3f, 0.0f});
  const at::Tensor given = s.model->forward(s.state, s.batch, mode);
  EXPECT_TRUE(at::equal(given[0], own[0]));
  EXPECT_FALSE(at::allclose(given[1], own[1]));
}

TEST(RecurrentModel, RecordsHowItsInnerLoopsLearn) {
  for (const bool persistent : {false, true}) {
    ModelSpec spec = spec_of("ttt_rnn", 5);
    spec.ttt.persistent = persistent;
    spec.ttt.base_lr = 0.05;
    Prepared s = prepare(spec, LabelKind::step, 2, 3, 6);
    InnerLossRecorder recorder({0, 1}, 2, 16, at::kCPU);
    ForwardMode mode;
    mode.inner_losses = &recorder;
    s.model->forward(s.state, s.batch, mode);
    const auto curves = recorder.curves(1);
    ASSERT_EQ(curves.size(), 2u);
    for (const auto& curve : curves) {
      ASSERT_EQ(curve.l0.size(), 6u);
      EXPECT_EQ(curve.weight[0], 3);
      EXPECT_EQ(curve.l0[0], curve.lprev[0]);
      for (std::size_t t = 0; t < 6; ++t) EXPECT_LT(curve.lafter[t], curve.lprev[t]);
      for (std::size_t t = 1; t < 6; ++t) EXPECT_EQ(curve.lprev[t] == curve.l0[t], !persistent);
    }
  }
}

}  // namespace
}  // namespace tenfold::testing

// ttt_lm against golden values, against its own options written another way, and as streams.
#include "trainer/ttt_lm.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "experiments/error.h"
#include "tests/trainer/tensors.h"
#include "tests/ttt/golden_tensors.h"
#include "trainer/compute.h"
#include "trainer/ttt_lm_layout.h"
#include "ttt/inner_loss.h"

namespace tenfold::testing {
namespace {

// Tiny tensors: threads would do nothing but wait for one another, and bits are promised for one.
[[maybe_unused]] const bool one_thread = (at::set_num_threads(1), true);
[[maybe_unused]] const std::unique_ptr<Compute> cpu = make_cpu_compute();

ModelSpec small_spec(const std::string& kind = "mlp") {
  ModelSpec spec;
  spec.kind = "ttt_lm";
  spec.layers = 2;
  spec.width = 16;
  spec.heads = 2;
  spec.feed_forward = 24;
  spec.ttt.kind = kind;
  spec.ttt.mini_batch_size = 4;
  return spec;
}

constexpr int kVocabulary = 13;

std::unique_ptr<Model> model_of(const ModelSpec& spec, int vocabulary = kVocabulary) {
  return make_ttt_lm(spec, {{1}, vocabulary, SampleKind::tokens, LabelKind::next_token});
}

// Parameters far enough from their initial values that every part of the model shows in its output.
ModelState random_state(const Model& model, std::int64_t members, at::ScalarType type) {
  ModelState state;
  std::uint64_t site = 100;
  for (const ParameterInfo& parameter : model.layout().parameters) {
    std::vector<std::int64_t> shape{members};
    shape.insert(shape.end(), parameter.shape.begin(), parameter.shape.end());
    const bool norm = parameter.role == ParameterRole::norm_weight;
    const double scale = norm || parameter.name.find("token_idx") != std::string::npos ? 0.1
                         : parameter.name.find("embed") != std::string::npos           ? 1.0
                                                                                       : 0.3;
    state.parameters.push_back(normal(shape, ++site).mul_(scale).add_(norm ? 1.0 : 0.0).to(type));
  }
  return state;
}

at::Tensor tokens_of(std::int64_t members, std::int64_t batch, std::int64_t length, std::uint64_t site = 9) {
  return normal({members, batch, length}, site).abs().mul(1000).to(at::kLong).remainder(kVocabulary);
}

at::Tensor& parameter(const Model& model, ModelState& state, const std::string& name) {
  for (std::size_t i = 0; i < state.parameters.size(); ++i)
    if (model.layout().parameters[i].name == name) return state.parameters[i];
  throw std::runtime_error("no parameter " + name);
}

std::vector<std::string> names(const Model& model) {
  std::vector<std::string> list;
  for (const ParameterInfo& info : model.layout().parameters) list.push_back(info.name);
  return list;
}

at::Tensor logits_of(const Model& model, ModelState& state, const at::Tensor& tokens) {
  return model.forward(state, {tokens, {}}, {}).view({tokens.size(0), tokens.size(1), tokens.size(2), -1});
}

class GoldenTttLm : public ::testing::TestWithParam<std::string> {
 protected:
  GoldenTttLm() : file_(golden_file("ttt_lm_" + GetParam())) {
    const auto config = nlohmann::json::parse(file_.metadata().at("config"));
    ModelSpec spec;
    spec.kind = "ttt_lm";
    spec.layers = config["num_hidden_layers"];
    spec.width = config["hidden_size"];
    spec.heads = config["num_attention_heads"];
    spec.feed_forward = config["intermediate_size"];
    spec.ttt.kind = GetParam();
    spec.ttt.mini_batch_size = config["mini_batch_size"];
    model_ = model_of(spec, config["vocab_size"]);
    for (const ParameterInfo& info : model_->layout().parameters) {
      const at::Tensor value = golden_tensor(file_, "weights." + info.name);
      EXPECT_EQ(value.sizes().vec(), info.shape) << info.name;
      state_.parameters.push_back(value.unsqueeze(0).requires_grad_());
    }
  }
  SafetensorsFile file_;
  std::unique_ptr<Model> model_;
  ModelState state_;
};

TEST_P(GoldenTttLm, AgreesWithTheReferenceProgram) {
  std::set<std::string> expected_names, given;
  for (const auto& [name, view] : file_.tensors())
    if (name.starts_with("weights.")) expected_names.insert(name.substr(8));
  for (const std::string& name : names(*model_)) given.insert(name);
  EXPECT_EQ(given, expected_names);

  const at::Tensor ids = golden_tensor(file_, "input_ids");
  const std::int64_t streams = ids.size(0), tokens = ids.size(1);
  const at::Tensor logits = logits_of(*model_, state_, ids.unsqueeze(0))[0];
  EXPECT_LT(relative_error(logits, golden_tensor(file_, "logits")), 1e-4);
  const at::Tensor loss = at::cross_entropy_loss(logits.narrow(1, 0, tokens - 1).reshape({streams * (tokens - 1), -1}),
                                                 ids.narrow(1, 1, tokens - 1).flatten());
  EXPECT_NEAR(loss.item<double>(), golden_tensor(file_, "loss").item<double>(), 1e-4 * loss.item<double>());
  const auto gradients = torch::autograd::grad({loss}, state_.parameters);
  const SafetensorsFile gradient_file = golden_file("ttt_lm_" + GetParam() + "_gradients");
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const std::string& name = model_->layout().parameters[i].name;
    EXPECT_LT(relative_error(gradients[i][0], golden_tensor(gradient_file, "grad." + name)), 1e-4) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Files, GoldenTttLm, ::testing::Values("linear", "mlp"),
                         [](const auto& info) { return info.param; });

TEST(TttLmLayout, NamesGroupsLayersAndCounts) {
  ModelSpec spec = small_spec();
  spec.ttt.inner_layers = 3;
  spec.ttt.share_qk = spec.ttt.use_gate = spec.ttt.pre_conv = spec.tie_embeddings = true;
  const auto model = model_of(spec);
  const std::vector<std::string> list = names(*model);
  for (const char* name : {"model.layers.1.seq_modeling_block.W3", "model.layers.0.seq_modeling_block.conv_q.weight",
                           "model.layers.0.seq_modeling_block.conv_k.bias", "model.layers.0.conv.conv.weight",
                           "model.layers.0.conv.norm.weight", "model.layers.0.seq_modeling_block.g_proj.weight"})
    EXPECT_THAT(list, ::testing::Contains(name));
  EXPECT_THAT(list, ::testing::Not(::testing::Contains("lm_head.weight")));
  EXPECT_THAT(list, ::testing::Not(::testing::Contains("model.layers.0.seq_modeling_block.k_proj.weight")));
  EXPECT_EQ(model->layout().layers, 3);
  for (const ParameterInfo& info : model->layout().parameters) {
    const bool inside = info.name.find("seq_modeling_block") != std::string::npos;
    EXPECT_EQ(info.group, inside ? ParameterGroup::ttt : ParameterGroup::base) << info.name;
    const bool norm = info.name.find("norm") != std::string::npos;
    EXPECT_EQ(info.role == ParameterRole::norm_weight || info.role == ParameterRole::norm_bias, norm) << info.name;
  }
  // Per block: convolution 16 + 64 + 16, norms 32, q v o g 4 * 256, conv_q and conv_k 2 * 80, rates 32 + 2 + 4, inner
  // norms 32, inner layers 2 * (8*32 + 32 + 32*32 + 32 + 32*8 + 8), post norm 32, feed-forward 3 * 384.
  const std::int64_t block = 96 + 32 + 1024 + 160 + 38 + 32 + 2 * 1608 + 32 + 1152;
  EXPECT_EQ(model->layout().parameter_count(), 2 * block + 13 * 16 + 16);
}

TEST(TttLmLayout, SaysWhatCannotBe) {
  ModelSpec spec = small_spec();
  spec.heads = 3;
  EXPECT_THROW(ttt_lm_layout(spec, 5), Error);
  spec.heads = 16;
  EXPECT_THROW(ttt_lm_layout(spec, 5), Error) << "heads of one feature have no pairs";
  spec = small_spec();
  spec.width = 1 << 30;
  EXPECT_THROW(ttt_lm_layout(spec, 5), Error);
  EXPECT_THROW(make_ttt_lm(small_spec(), {{4}, 3, SampleKind::sequence, LabelKind::step}), Error);
}

// Every option, in double: a token's logits do not depend on what follows it.
struct Option {
  const char* name;
  void (*set)(ModelSpec&);
};

class TttLmOptions : public ::testing::TestWithParam<Option> {
 protected:
  TttLmOptions() {
    spec_ = small_spec();
    GetParam().set(spec_);
    model_ = model_of(spec_);
    state_ = random_state(*model_, 2, at::kDouble);
  }
  ModelSpec spec_;
  std::unique_ptr<Model> model_;
  ModelState state_;
};

TEST_P(TttLmOptions, AreCausal) {
  at::Tensor tokens = tokens_of(2, 3, 11);
  const at::Tensor before = logits_of(*model_, state_, tokens);
  at::Tensor changed = tokens.clone();
  changed.narrow(2, 6, 5).copy_((changed.narrow(2, 6, 5) + 1).remainder(kVocabulary));
  const at::Tensor after = logits_of(*model_, state_, changed);
  EXPECT_LT(relative_error(after.narrow(2, 0, 6), before.narrow(2, 0, 6)), 1e-13);
  EXPECT_GT(relative_error(after.narrow(2, 6, 5), before.narrow(2, 6, 5)), 1e-3);
}

TEST_P(TttLmOptions, EveryParameterMatters) {
  for (at::Tensor& value : state_.parameters) value.requires_grad_();
  const at::Tensor logits = logits_of(*model_, state_, tokens_of(2, 3, 11));
  const auto gradients = torch::autograd::grad({logits.square().sum()}, state_.parameters);
  for (std::size_t i = 0; i < gradients.size(); ++i)
    for (int k = 0; k < 2; ++k) EXPECT_GT(gradients[i][k].abs().max().item<double>(), 1e-9) << names(*model_)[i];
}

TEST_P(TttLmOptions, GradientsAreThoseOfCentralDifferences) {
  const at::Tensor tokens = tokens_of(2, 2, 7);
  for (at::Tensor& value : state_.parameters) value.requires_grad_();
  const auto loss = [&] { return logits_of(*model_, state_, tokens).sin().sum(); };
  const auto gradients = torch::autograd::grad({loss()}, state_.parameters);
  at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const at::Tensor direction = normal(state_.parameters[i].sizes().vec(), 500 + i).to(at::kDouble);
    const double step = 1e-6;
    state_.parameters[i].add_(direction, step);
    const double above = loss().item<double>();
    state_.parameters[i].add_(direction, -2 * step);
    const double below = loss().item<double>();
    state_.parameters[i].add_(direction, step);
    const double expected = (above - below) / (2 * step), got = (gradients[i] * direction).sum().item<double>();
    EXPECT_NEAR(got, expected, 1e-5 * (1 + std::abs(expected))) << names(*model_)[i];
  }
}

TEST_P(TttLmOptions, StreamsInPiecesAreOneCall) {
  const at::Tensor tokens = tokens_of(2, 3, 23);
  const at::Tensor whole = logits_of(*model_, state_, tokens);
  InnerLossRecorder expected({0, 1}, 2, 64, at::kCPU);
  ForwardMode mode;
  mode.inner_losses = &expected;
  model_->forward(state_, {tokens, {}}, mode);
  for (const std::vector<std::int64_t>& pieces :
       {std::vector<std::int64_t>(23, 1), std::vector<std::int64_t>{23}, std::vector<std::int64_t>{5, 2, 9, 7}}) {
    InnerLossRecorder recorder({0, 1}, 2, 64, at::kCPU);
    LanguageStreamOptions options;
    options.recorder = &recorder;
    const auto stream = make_language_stream(*model_, state_, options);
    EXPECT_EQ(stream->ttt_layers()[1].movement.abs().sum().item<double>(), 0);
    std::vector<at::Tensor> parts;
    for (const std::int64_t piece : pieces) parts.push_back(stream->feed(tokens.narrow(2, stream->position(), piece)));
    EXPECT_LT(relative_error(at::cat(parts, 2), whole), 1e-12);
    stream->finish();
    EXPECT_THROW(stream->feed(tokens), Error);
    for (const auto& layer : stream->ttt_layers()) {
      EXPECT_GT(layer.movement.min().item<double>(), 1e-4);
      EXPECT_GT(layer.norm.min().item<double>(), 0.1);
    }
    for (int k = 0; k < 2; ++k)
      for (int i = 0; i < 2; ++i) {
        const auto got = recorder.curves(k)[i], want = expected.curves(k)[i];
        ASSERT_EQ(got.l0.size(), 23u);
        for (std::size_t t = 0; t < 23; ++t) {
          EXPECT_NEAR(got.l0[t], want.l0[t], 1e-9);
          EXPECT_NEAR(got.lprev[t], want.lprev[t], 1e-9);
          EXPECT_NEAR(got.lafter[t], want.lafter[t], 1e-9);
        }
      }
  }
}

TEST_P(TttLmOptions, PaddingChangesNothing) {
  const at::Tensor tokens = tokens_of(2, 3, 11);
  at::Tensor padded = at::cat({tokens, tokens_of(2, 3, 5, 77)}, 2);
  const at::Tensor weight = at::cat({at::ones({2, 3, 11}), at::zeros({2, 3, 5})}, 2);
  const at::Tensor got = model_->forward(state_, {padded, weight}, {}).view({2, 3, 16, -1}).narrow(2, 0, 11);
  EXPECT_LT(relative_error(got, logits_of(*model_, state_, tokens)), 1e-13);
}

INSTANTIATE_TEST_SUITE_P(All, TttLmOptions,
                         ::testing::Values(Option{"mlp", [](ModelSpec&) {}},
                                           Option{"linear", [](ModelSpec& s) { s.ttt.kind = "linear"; }},
                                           Option{"three_layers", [](ModelSpec& s) { s.ttt.inner_layers = 3; }},
                                           Option{"five_layers", [](ModelSpec& s) { s.ttt.inner_layers = 5; }},
                                           Option{"shared", [](ModelSpec& s) { s.ttt.share_qk = true; }},
                                           Option{"gated", [](ModelSpec& s) { s.ttt.use_gate = true; }},
                                           Option{"convolved", [](ModelSpec& s) { s.ttt.pre_conv = true; }},
                                           Option{"tied", [](ModelSpec& s) { s.tie_embeddings = true; }},
                                           Option{"clipped", [](ModelSpec& s) { s.ttt.inner_clip_norm = 2.0; }},
                                           Option{"groups", [](ModelSpec& s) { s.ttt.checkpoint_group_size = 2; }},
                                           Option{"everything",
                                                  [](ModelSpec& s) {
                                                    s.ttt.share_qk = s.ttt.use_gate = s.ttt.pre_conv =
                                                        s.tie_embeddings = true;
                                                    s.ttt.kind = "linear";
                                                  }}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(TttLm, InnerRatesDifferBetweenMembers) {
  ModelSpec spec = small_spec();
  const auto model = model_of(spec);
  ModelState state = random_state(*model, 1, at::kDouble);
  for (at::Tensor& value : state.parameters) value = value.expand_as(at::cat({value, value}, 0)).contiguous();
  const at::Tensor one = tokens_of(1, 2, 12), tokens = at::cat({one, one}, 0);
  ForwardMode mode;
  mode.base_lr = at::tensor({0.1, 1.5}, at::kDouble);
  const at::Tensor both = model->forward(state, {tokens, {}}, mode);
  EXPECT_GT(relative_error(both[0], both[1]), 1e-3);
  for (int k = 0; k < 2; ++k) {
    spec.ttt.base_lr = k == 0 ? 0.1 : 1.5;
    const at::Tensor expected = logits_of(*model_of(spec), state, tokens).flatten(1, 2);
    EXPECT_LT(relative_error(both[k], expected[k]), 1e-13);
  }
}

TEST(TttLm, AMemberHasTheSameBitsInAnyArray) {
  for (const char* kind : {"linear", "mlp"}) {
    ModelSpec spec = small_spec(kind);
    spec.ttt.share_qk = spec.ttt.use_gate = spec.ttt.pre_conv = true;
    const auto model = model_of(spec);
    ModelState state = random_state(*model, 3, at::kFloat);
    for (at::Tensor& value : state.parameters) value.requires_grad_();
    const at::Tensor tokens = tokens_of(3, 5, 13), probe = normal({3, 65, kVocabulary}, 4);
    const at::Tensor logits = model->forward(state, {tokens, {}}, {});
    const auto gradients = torch::autograd::grad({(logits * probe).sum()}, state.parameters);
    for (int k = 0; k < 3; ++k) {
      ModelState alone;
      for (const at::Tensor& value : state.parameters)
        alone.parameters.push_back(value.detach().narrow(0, k, 1).clone().requires_grad_());
      const at::Tensor own = model->forward(alone, {tokens.narrow(0, k, 1), {}}, {});
      EXPECT_TRUE(at::equal(own[0], logits[k])) << kind << ", member " << k;
      const auto own_gradients = torch::autograd::grad({(own * probe.narrow(0, k, 1)).sum()}, alone.parameters);
      for (std::size_t i = 0; i < gradients.size(); ++i)
        EXPECT_TRUE(at::equal(own_gradients[i][0], gradients[i][k]))
            << kind << ", member " << k << ": " << names(*model)[i] << ", off by "
            << relative_error(own_gradients[i][0], gradients[i][k]);
    }
  }
}

TEST(TttLmStream, FrozenKeepsTheInnerModelsAndOffLeavesThemOut) {
  const auto model = model_of(small_spec());
  ModelState state = random_state(*model, 1, at::kDouble);
  const at::Tensor tokens = tokens_of(1, 2, 9);
  const auto read = [&](TttSwitch ttt) {
    LanguageStreamOptions options;
    options.ttt = ttt;
    const auto stream = make_language_stream(*model, state, options);
    at::Tensor logits = stream->feed(tokens);
    return std::pair(logits, stream->ttt_layers()[0].movement.sum().item<double>());
  };
  const auto on = read(TttSwitch::on), frozen = read(TttSwitch::frozen), off = read(TttSwitch::off);
  EXPECT_GT(on.second, 0);
  EXPECT_EQ(frozen.second, 0);
  EXPECT_EQ(off.second, 0);
  EXPECT_GT(relative_error(frozen.first, on.first), 1e-4);
  EXPECT_GT(relative_error(off.first, frozen.first), 1e-3);
  ModelState without = state;
  for (int i = 0; i < 2; ++i) {
    at::Tensor& o =
        parameter(*model, without, "model.layers." + std::to_string(i) + ".seq_modeling_block.o_proj.weight");
    o = at::zeros_like(o);
  }
  EXPECT_LT(relative_error(off.first, logits_of(*model, without, tokens)), 1e-13);
}

TEST(TttLmStream, WithoutCarryingEveryCallBeginsAtTheInitialWeights) {
  ModelSpec spec = small_spec();
  const auto model = model_of(spec);
  ModelState state = random_state(*model, 1, at::kDouble);
  const at::Tensor tokens = tokens_of(1, 2, 6);
  InnerLossRecorder recorder({0}, 1, 64, at::kCPU);
  LanguageStreamOptions options;
  options.carry = false;
  options.recorder = &recorder;
  const auto stream = make_language_stream(*model, state, options);
  const at::Tensor first = stream->feed(tokens), second = stream->feed(tokens);
  EXPECT_TRUE(at::equal(first, second));
  stream->finish();
  const auto curve = recorder.curves(0)[0];
  ASSERT_EQ(curve.l0.size(), 12u) << "positions go on";
  for (int t = 0; t < 6; ++t) EXPECT_NEAR(curve.lprev[t + 6], curve.lprev[t], 1e-12);
}

TEST(TttLmStream, StateDoesNotGrow) {
  ModelSpec spec = small_spec();
  spec.ttt.share_qk = spec.ttt.pre_conv = true;
  const auto model = model_of(spec);
  const ModelState state = random_state(*model, 1, at::kFloat);
  const auto stream = make_language_stream(*model, state);
  std::vector<std::int64_t> bytes;
  for (int i = 0; i < 60; ++i) {
    stream->feed(tokens_of(1, 1, 7, 20 + i));
    bytes.push_back(stream->state_bytes());
  }
  EXPECT_EQ(std::vector<std::int64_t>(bytes.begin() + 4, bytes.begin() + 8),
            std::vector<std::int64_t>(bytes.end() - 4, bytes.end()));
}

}  // namespace
}  // namespace tenfold::testing

// The gated TTT layers of a transformer against a slow token-by-token computation in double, the rules of their states,
// and the streams they are read from.
#include "trainer/placed_ttt.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <map>

#include "datasets/safetensors.h"
#include "experiments/error.h"
#include "tests/trainer/transformer_harness.h"
#include "trainer/published_checkpoint.h"
#include "ttt/inner_loss.h"

namespace tenfold::testing {
namespace {

ModelSpec with_ttt(const std::string& kind, std::vector<std::string> layers = {"all"}) {
  ModelSpec spec = small_transformer();
  spec.ttt.kind = kind;
  spec.ttt.layers = std::move(layers);
  spec.ttt.mini_batch_size = 4;
  spec.ttt.base_lr = 3.0;
  return spec;
}

const TransformerLm& transformer(const Model& model) { return dynamic_cast<const TransformerLm&>(model); }

at::Tensor gelu_tanh(const at::Tensor& x) {
  return 0.5 * x * (1 + at::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

// One head of one stream, by the primal form: the inner gradient is autograd's, each token's weights are made by
// themselves. q, k, v (T, f), rate (T).
struct SlowHead {
  std::vector<at::Tensor> weights, biases;  // (in, out), (1, out)
  at::Tensor gamma, beta;                   // (f)
  std::int64_t mini_batch;
  bool causal;

  static at::Tensor model(const at::Tensor& x, const std::vector<at::Tensor>& w) {
    at::Tensor y = x;
    const std::size_t layers = w.size() / 2;
    for (std::size_t i = 0; i < layers; ++i) {
      y = y.mm(w[i]) + w[layers + i];
      if (i + 1 < layers) y = gelu_tanh(y);
    }
    return y;
  }
  at::Tensor normed(const at::Tensor& z) const {
    const at::Tensor centred = z - z.mean();
    return gamma * centred / (centred.square().mean() + 1e-8).sqrt() + beta;
  }

  at::Tensor output(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& rate) const {
    std::vector<at::Tensor> start = weights, rows;
    start.insert(start.end(), biases.begin(), biases.end());
    for (std::int64_t first = 0; first < q.size(0); first += mini_batch) {
      const std::int64_t end = std::min(q.size(0), first + mini_batch);
      std::vector<std::vector<at::Tensor>> steps;  // r_j G_j
      for (std::int64_t j = first; j < end; ++j) {
        std::vector<at::Tensor> leaves;
        for (const at::Tensor& w : start) leaves.push_back(w.detach().requires_grad_(true));
        const at::Tensor error = v[j] - k[j], centred = error - error.mean();
        const at::Tensor sd = (centred.square().sum() / static_cast<double>(q.size(1) - 1)).sqrt();
        const at::Tensor target = gamma * centred / (sd + 1e-5) + beta;
        const at::Tensor y = normed(model(k[j].unsqueeze(0), leaves)).squeeze(0);
        const at::Tensor loss = 0.5 * (y - target).square().sum();
        std::vector<at::Tensor> step = torch::autograd::grad({loss}, leaves);
        for (at::Tensor& g : step) g = g * rate[j];
        steps.push_back(step);
      }
      std::vector<at::Tensor> moved;
      for (std::int64_t i = first; i < end; ++i) {
        moved = start;
        for (std::int64_t j = first; j < (causal ? i + 1 : end); ++j)
          for (std::size_t w = 0; w < moved.size(); ++w)
            moved[w] = moved[w] - steps[static_cast<std::size_t>(j - first)][w];
        rows.push_back(q[i] + normed(model(q[i].unsqueeze(0), moved)).squeeze(0));
      }
      start = moved;
    }
    return at::stack(rows);
  }
};

// tanh(alpha) TTT(x) of one member and stream: x (T, D).
at::Tensor slow_layer(const at::Tensor& x, const PlacedTttParameters& p, std::int64_t member, const ModelSpec& spec) {
  const std::int64_t heads = spec.heads, f = spec.width / heads;
  const auto projected = [&](const at::Tensor& weight) { return x.mm(weight[member].t()).view({-1, heads, f}); };
  const auto unit = [](const at::Tensor& y) { return y / y.square().sum(-1, true).sqrt(); };
  const at::Tensor q = unit(projected(p.q_proj)), k = unit(projected(p.k_proj)), v = projected(p.v_proj);
  std::vector<at::Tensor> outputs;
  for (std::int64_t h = 0; h < heads; ++h) {
    SlowHead head{{},
                  {},
                  p.inner.norm_weight[member][h],
                  p.inner.norm_bias[member][h],
                  spec.ttt.mini_batch_size,
                  spec.ttt.dialect == "causal"};
    for (const at::Tensor& w : p.inner.weights) head.weights.push_back(w[member][h]);
    for (const at::Tensor& b : p.inner.biases) head.biases.push_back(b[member][h]);
    const at::Tensor logit = x.mv(p.rate_weight[member][h][0]) + p.rate_bias[member][h][0];
    const at::Tensor rate =
        *spec.ttt.base_lr / (1 + (-logit).exp()) / static_cast<double>(f * spec.ttt.mini_batch_size);
    outputs.push_back(head.output(q.select(1, h), k.select(1, h), v.select(1, h), rate));
  }
  const at::Tensor joined = at::cat(outputs, -1), centred = joined - joined.mean(-1, true);
  const at::Tensor normed =
      centred / (centred.square().mean(-1, true) + 1e-6).sqrt() * p.post_norm_weight[member] + p.post_norm_bias[member];
  return normed.mm(p.o_proj[member].t()) * at::tanh(p.gate_alpha[member]);
}

TEST(PlacedTtt, IsTheLayerOfItsFormulas) {
  for (const std::string kind : {"linear", "mlp"})
    for (const std::string dialect : {"causal", "video_dit"}) {
      ModelSpec spec = with_ttt(kind);
      spec.ttt.dialect = dialect;
      if (kind == "mlp") spec.ttt.inner_layers = dialect == "causal" ? 2 : 3;
      const auto model = small_model(spec);
      const ModelState state = random_state(*model, 2, at::kDouble);
      const PlacedTttParameters parameters = transformer(*model).ttt_parameters(state, 1);
      const at::Tensor x = normal({2, 2, 10, spec.width}, 20).to(at::kDouble);  // two mini-batches and a half
      const at::Tensor got = placed_ttt(x, parameters, transformer(*model).inner_options(),
                                        {at::full({2}, *spec.ttt.base_lr, at::kDouble), {}, nullptr, nullptr, 1})
                                 .output;
      for (std::int64_t k = 0; k < 2; ++k)
        for (std::int64_t b = 0; b < 2; ++b)
          EXPECT_LT(relative_error(got[k][b], slow_layer(x[k][b], parameters, k, spec)), 1e-9)
              << kind << ' ' << dialect;
    }
}

TEST(PlacedTtt, HasTheGradientOfItsFormulas) {
  ModelSpec spec = with_ttt("mlp", {"0"});
  expect_gradient(spec);
  spec.ttt.kind = "linear";
  spec.ttt.dialect = "video_dit";
  spec.ttt.layers = {"-1"};
  expect_gradient(spec);
}

TEST(PlacedTtt, GivesAMemberTheSameBitsInAnyArray) {
  expect_same_bits(with_ttt("linear"), 3, 9);
  expect_same_bits(with_ttt("mlp"), 3, 9);
}

// Parameters by name from `from`, where both models have them.
ModelState same_values(const Model& to, const Model& from, const ModelState& values) {
  ModelState state;
  for (const ParameterInfo& wanted : to.layout().parameters)
    for (std::size_t i = 0; i < from.layout().parameters.size(); ++i)
      if (from.layout().parameters[i].name == wanted.name) state.parameters.push_back(values.parameters[i]);
  return state;
}

void set(const Model& model, ModelState& state, const std::string& part, double value) {
  for (std::size_t i = 0; i < state.parameters.size(); ++i)
    if (model.layout().parameters[i].name.find(part) != std::string::npos) state.parameters[i].fill_(value);
}

TEST(PlacedTtt, AShutGateIsNoLayer) {
  const auto with = small_model(with_ttt("mlp")), without = small_model(small_transformer());
  ModelState state = random_state(*with, 2, at::kFloat);
  ModelState base = same_values(*without, *with, state);
  ASSERT_EQ(base.parameters.size(), without->layout().parameters.size());
  const Batch batch = batch_of(tokens_of(2, 2, 11, 1));
  EXPECT_FALSE(at::equal(with->forward(state, batch, {}), without->forward(base, batch, {})));
  set(*with, state, "gate_alpha", 0);
  EXPECT_TRUE(at::equal(with->forward(state, batch, {}), without->forward(base, batch, {})));
}

TEST(PlacedTtt, IsWhereItIsPlaced) {
  for (const auto& [patterns, expected] : std::vector<std::pair<std::vector<std::string>, std::vector<int>>>{
           {{"none"}, {}}, {{"-1"}, {3}}, {{"every:2"}, {1, 3}}, {{"early", "2"}, {0, 2}}, {{"all"}, {0, 1, 2, 3}}}) {
    ModelSpec spec = with_ttt("linear", patterns);
    spec.layers = 4;
    const auto model = small_model(spec);
    EXPECT_EQ(transformer(*model).ttt_blocks(), expected);
    ModelState state = random_state(*model, 1, at::kFloat);
    InnerLossRecorder recorder({0, 1, 2, 3}, 1, 64, at::kCPU);
    ForwardMode mode;
    mode.inner_losses = &recorder;
    at::NoGradGuard no_grad;
    model->forward(state, batch_of(tokens_of(1, 2, 9, 3)), mode);
    std::vector<int> recorded;
    for (const auto& curves : recorder.curves(0))
      if (!curves.l0.empty()) recorded.push_back(curves.layer);
    EXPECT_EQ(recorded, expected);
  }
}

TEST(PlacedTtt, SeesTheFutureInsideAMiniBatchOnlyAsVideoDit) {
  for (const std::string dialect : {"causal", "video_dit"}) {
    ModelSpec spec = with_ttt("mlp", {"0"});
    spec.ttt.dialect = dialect;
    const auto model = small_model(spec);
    ModelState state = random_state(*model, 1, at::kFloat);
    const at::Tensor tokens = tokens_of(1, 1, 14, 2);
    at::Tensor changed = tokens.clone();
    changed[0][0][10] = (changed[0][0][10] + 1) % kVocabulary;  // of the mini-batch 8..11
    const at::Tensor a = model->forward(state, batch_of(tokens), {})[0],
                     b = model->forward(state, batch_of(changed), {})[0];
    EXPECT_TRUE(at::equal(a.narrow(0, 0, 8), b.narrow(0, 0, 8))) << dialect;
    EXPECT_EQ(at::equal(a.narrow(0, 8, 2), b.narrow(0, 8, 2)), dialect == "causal");
    EXPECT_FALSE(at::equal(a.narrow(0, 10, 4), b.narrow(0, 10, 4)));
  }
}

TEST(PlacedTtt, PaddingChangesNothing) {
  for (const std::string dialect : {"causal", "video_dit"}) {
    ModelSpec spec = with_ttt("mlp");
    spec.ttt.dialect = dialect;
    const auto model = small_model(spec);
    ModelState state = random_state(*model, 1, at::kFloat);
    const at::Tensor tokens = tokens_of(1, 2, 12, 2);
    Batch batch = batch_of(tokens);
    batch.step_weight[0][0].narrow(0, 6, 6).fill_(0);  // its second mini-batch holds two real tokens
    const auto logits_of = [&](const Batch& input) {
      return model->forward(state, input, {}).view({input.x.size(1), input.x.size(2), kVocabulary});
    };
    const at::Tensor first = logits_of(batch);
    Batch other = batch;
    other.x = tokens.clone();
    other.x[0][0].narrow(0, 6, 6).fill_(3);
    const at::Tensor second = logits_of(other);
    EXPECT_TRUE(at::equal(first[0].narrow(0, 0, 6), second[0].narrow(0, 0, 6))) << dialect;
    EXPECT_TRUE(at::equal(first[1], second[1]));
    const at::Tensor cut = logits_of(batch_of(tokens.narrow(1, 0, 1).narrow(2, 0, 6)));
    EXPECT_LT(relative_error(first[0].narrow(0, 0, 6), cut[0]), 1e-5);
  }
}

// Inner models learn by formulas, not by autograd: switching that off changes nothing.
TEST(PlacedTtt, LearnsWithAutogradSwitchedOff) {
  const auto model = small_model(with_ttt("mlp"));
  ModelState state = random_state(*model, 1, at::kFloat);
  const Batch batch = batch_of(tokens_of(1, 2, 11, 2));
  for (at::Tensor& parameter : state.parameters) parameter.requires_grad_(true);
  const at::Tensor with = model->forward(state, batch, {});
  ASSERT_TRUE(with.requires_grad());
  ForwardMode still;
  still.base_lr = at::zeros({1});
  at::NoGradGuard no_grad;
  EXPECT_TRUE(at::equal(model->forward(state, batch, {}), with));
  EXPECT_FALSE(at::equal(model->forward(state, batch, still), with));
}

TEST(PlacedTtt, TakesAnInnerRateOfEachMember) {
  ModelSpec spec = with_ttt("linear");
  const auto model = small_model(spec);
  ModelState one = random_state(*model, 1, at::kFloat), two;
  for (const at::Tensor& parameter : one.parameters) two.parameters.push_back(at::cat({parameter, parameter}));
  const at::Tensor tokens = tokens_of(1, 2, 9, 2);
  ForwardMode mode;
  mode.base_lr = at::tensor({0.5f, 3.0f});
  const at::Tensor both = model->forward(two, batch_of(at::cat({tokens, tokens})), mode);
  EXPECT_FALSE(at::equal(both[0], both[1]));
  EXPECT_TRUE(at::equal(both[1], model->forward(one, batch_of(tokens), {})[0]));
  spec.ttt.base_lr = 0.5;
  EXPECT_TRUE(at::equal(both[0], small_model(spec)->forward(one, batch_of(tokens), {})[0]));
}

// A published transformer is what layers and LoRA are added to: its parameters load by name, theirs keep their values.
TEST(PlacedTtt, IsAddedToAPublishedTransformer) {
  ModelSpec spec = with_ttt("mlp", {"last:1"});
  spec.lora.rank = 2;
  const auto published = small_model(small_transformer()), extended = small_model(spec);
  ModelState values = random_state(*published, 1, at::kFloat), state = initial_state(extended->layout(), 1, 0, 0);
  const auto folder = std::filesystem::temp_directory_path() / ("transformer-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  std::map<std::string, TensorView> views;
  for (std::size_t i = 0; i < values.parameters.size(); ++i) {
    const at::Tensor& value = values.parameters[i];
    views[published->layout().parameters[i].name] = {
        "F32",
        published->layout().parameters[i].shape,
        {static_cast<const std::byte*>(value.const_data_ptr()), static_cast<std::size_t>(value.nbytes())}};
  }
  write_safetensors(folder / "model.safetensors", views, {}, false);
  const PublishedParameters loaded = load_published_parameters(folder, extended->layout(), state);
  std::filesystem::remove_all(folder);
  EXPECT_EQ(loaded.kept.size(), extended->layout().parameters.size() - published->layout().parameters.size());
  const Batch batch = batch_of(tokens_of(1, 2, 9, 7));
  at::NoGradGuard no_grad;
  const at::Tensor expected = published->forward(values, batch, {});
  EXPECT_FALSE(at::equal(extended->forward(state, batch, {}), expected));
  set(*extended, state, "gate_alpha", 0);  // lora_B is 0 already
  EXPECT_TRUE(at::equal(extended->forward(state, batch, {}), expected));
}

at::Tensor streamed(LanguageStream& stream, const at::Tensor& tokens, std::int64_t piece) {
  std::vector<at::Tensor> logits;
  for (std::int64_t first = 0; first < tokens.size(2); first += piece)
    logits.push_back(stream.feed(tokens.narrow(2, first, std::min(piece, tokens.size(2) - first))));
  return at::cat(logits, 2);
}

TEST(TransformerStream, PiecesDoNotMatter) {
  for (const std::string kind : {"linear", "mlp"}) {
    const auto model = small_model(with_ttt(kind));
    ModelState state = random_state(*model, 2, at::kFloat);
    const ModelState before = [&] {
      ModelState copy;
      for (const at::Tensor& parameter : state.parameters) copy.parameters.push_back(parameter.clone());
      return copy;
    }();
    const at::Tensor tokens = tokens_of(2, 2, 30, 4);
    const at::Tensor whole = model->forward(state, batch_of(tokens), {}).view({2, 2, 30, kVocabulary}).detach();
    at::Tensor movement;
    for (const std::int64_t piece : {30, 1, 3, 7, 16}) {
      const auto stream = make_transformer_lm_stream(*model, state, {});
      EXPECT_LT(relative_error(streamed(*stream, tokens, piece), whole), 1e-5) << kind << " by " << piece;
      EXPECT_EQ(stream->position(), 30);
      stream->finish();
      const auto layers = stream->ttt_layers();
      ASSERT_EQ(layers.size(), 2u);
      EXPECT_EQ(layers[1].layer, 1);
      if (!movement.defined()) movement = layers[1].movement;
      EXPECT_GT(movement.min().item<float>(), 1e-3);
      EXPECT_LT(relative_error(layers[1].movement, movement), 1e-5) << kind << " by " << piece;
    }
    // The learned initial weights are parameters: reading writes to none.
    for (std::size_t i = 0; i < state.parameters.size(); ++i)
      EXPECT_TRUE(at::equal(state.parameters[i], before.parameters[i])) << model->layout().parameters[i].name;
  }
}

TEST(TransformerStream, KeepsABoundedWindow) {
  const auto model = small_model(with_ttt("linear"));
  const ModelState state = random_state(*model, 1, at::kFloat);
  const at::Tensor tokens = tokens_of(1, 1, 60, 4);
  constexpr std::int64_t kWindow = 6;
  const auto one = make_transformer_lm_stream(*model, state, {}, kWindow);
  const auto many = make_transformer_lm_stream(*model, state, {}, kWindow);
  const auto wide = make_transformer_lm_stream(*model, state, {});
  const at::Tensor by_one = streamed(*one, tokens, 1), unbounded = streamed(*wide, tokens, 60);
  EXPECT_LT(relative_error(streamed(*many, tokens, 11), by_one), 1e-5);
  EXPECT_LT(relative_error(by_one.narrow(2, 0, kWindow), unbounded.narrow(2, 0, kWindow)), 1e-5);
  EXPECT_GT(relative_error(by_one, unbounded), 1e-3);
  const std::int64_t bytes = one->state_bytes();
  streamed(*one, tokens, 1);
  EXPECT_EQ(one->state_bytes(), bytes);
  EXPECT_GT(wide->state_bytes(), bytes);
}

TEST(TransformerStream, SwitchesItsLayers) {
  const ModelSpec spec = with_ttt("mlp");
  const auto model = small_model(spec), without = small_model(small_transformer());
  ModelState state = random_state(*model, 1, at::kFloat), base = same_values(*without, *model, state);
  const at::Tensor tokens = tokens_of(1, 2, 20, 4);
  const auto run = [&](const LanguageStreamOptions& options) {
    const auto stream = make_transformer_lm_stream(*model, state, options);
    const at::Tensor logits = streamed(*stream, tokens, 5);
    return std::pair(logits.flatten(1, 2), stream->ttt_layers());
  };
  const auto [off, off_layers] = run({TttSwitch::off, nullptr, true});
  EXPECT_LT(relative_error(off, without->forward(base, batch_of(tokens), {})), 1e-5);
  EXPECT_EQ(off_layers[0].movement.sizes(), (at::IntArrayRef{1, 2}));
  EXPECT_EQ(off_layers[0].movement.max().item<float>(), 0);
  ForwardMode still;
  still.base_lr = at::zeros({1});
  const auto [frozen, frozen_layers] = run({TttSwitch::frozen, nullptr, true});
  EXPECT_LT(relative_error(frozen, model->forward(state, batch_of(tokens), still)), 1e-5);
  EXPECT_EQ(frozen_layers[0].movement.max().item<float>(), 0);
  const auto [on, on_layers] = run({});
  EXPECT_GT(relative_error(on, frozen), 1e-3);
  // Not carried: every call begins at W_0.
  const auto [dropped, dropped_layers] = run({TttSwitch::on, nullptr, false});
  EXPECT_GT(relative_error(dropped.narrow(1, 5, 15), on.narrow(1, 5, 15)), 1e-4);
  EXPECT_LT(dropped_layers[0].movement.max().item<float>(), on_layers[0].movement.max().item<float>());
  EXPECT_NEAR(on_layers[0].mean_tanh_gate.item<float>(),
              at::tanh(transformer(*model).ttt_parameters(state, 0).gate_alpha).abs().mean().item<float>(), 1e-6);
}

TEST(TransformerStream, ReadsTransformersAlone) {
  const auto compute = make_cpu_compute();
  ModelSpec spec;
  spec.kind = "mlp";
  const auto other = make_classifier_model(spec, {{4}, 3, SampleKind::fixed, LabelKind::sample}, false);
  const ModelState state;
  EXPECT_THROW(make_transformer_lm_stream(*other, state, {}), Error);
  const auto model = small_model(small_transformer());
  EXPECT_THROW(make_transformer_lm_stream(*model, state, {}, 0), Error);
}

}  // namespace
}  // namespace tenfold::testing

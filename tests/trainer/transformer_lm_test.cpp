// transformer_lm against slow loops in double, and the rules that a causal model, LoRA and arrays must keep.
#include "trainer/transformer_lm.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "experiments/error.h"
#include "tests/trainer/transformer_harness.h"

namespace tenfold::testing {
namespace {

using Matrix = std::vector<std::vector<double>>;

Matrix matrix(const at::Tensor& tensor) {
  const at::Tensor rows = tensor.dim() == 1 ? tensor.unsqueeze(0) : tensor;
  Matrix out(static_cast<std::size_t>(rows.size(0)), std::vector<double>(static_cast<std::size_t>(rows.size(1))));
  for (std::size_t i = 0; i < out.size(); ++i)
    for (std::size_t j = 0; j < out[i].size(); ++j)
      out[i][j] = rows[static_cast<std::int64_t>(i)][static_cast<std::int64_t>(j)].item<double>();
  return out;
}

// A plain Llama of one member and one sequence, written as its formulas are: loops over tokens, heads and channels.
class SlowLlama {
 public:
  SlowLlama(const Model& model, const ModelState& state, std::int64_t member) : spec_(model.spec()) {
    for (std::size_t i = 0; i < state.parameters.size(); ++i)
      values_[model.layout().parameters[i].name] = matrix(state.parameters[i][member]);
  }

  Matrix logits(const std::vector<std::int64_t>& tokens) const {
    Matrix x;
    for (const std::int64_t token : tokens)
      x.push_back(at("model.embed_tokens.weight")[static_cast<std::size_t>(token)]);
    for (int i = 0; i < spec_.layers; ++i) {
      const std::string block = "model.layers." + std::to_string(i) + ".";
      add(x, attention(norm(x, block + "input_layernorm"), block + "self_attn."));
      add(x, feed_forward(norm(x, block + "post_attention_layernorm"), block + "mlp."));
    }
    const Matrix& head = at(spec_.tie_embeddings ? "model.embed_tokens.weight" : "lm_head.weight");
    return times(norm(x, "model.norm"), head);
  }

 private:
  const Matrix& at(const std::string& name) const { return values_.at(name); }

  static void add(Matrix& x, const Matrix& y) {
    for (std::size_t t = 0; t < x.size(); ++t)
      for (std::size_t i = 0; i < x[t].size(); ++i) x[t][i] += y[t][i];
  }

  static Matrix times(const Matrix& x, const Matrix& weight) {  // [out, in]
    Matrix y(x.size(), std::vector<double>(weight.size()));
    for (std::size_t t = 0; t < x.size(); ++t)
      for (std::size_t o = 0; o < weight.size(); ++o)
        for (std::size_t i = 0; i < weight[o].size(); ++i) y[t][o] += weight[o][i] * x[t][i];
    return y;
  }

  Matrix project(const Matrix& x, const std::string& name) const {
    Matrix y = times(x, at(name + ".weight"));
    if (!values_.contains(name + ".lora_A.weight")) return y;
    Matrix low = times(times(x, at(name + ".lora_A.weight")), at(name + ".lora_B.weight"));
    for (auto& row : low)
      for (double& value : row) value *= spec_.lora.scaling;
    add(y, low);
    return y;
  }

  Matrix norm(const Matrix& x, const std::string& name) const {
    const std::vector<double>& weight = at(name + ".weight")[0];
    Matrix y = x;
    for (auto& row : y) {
      double squares = 0;
      for (const double value : row) squares += value * value;
      const double root = std::sqrt(squares / static_cast<double>(row.size()) + 1e-6);
      for (std::size_t i = 0; i < row.size(); ++i) row[i] *= weight[i] / root;
    }
    return y;
  }

  Matrix attention(const Matrix& x, const std::string& place) const {
    const Matrix v = project(x, place + "v_proj");
    const std::size_t heads = static_cast<std::size_t>(spec_.heads), f = x[0].size() / heads;
    const auto rotated = [&](Matrix y) {
      for (std::size_t t = 0; t < y.size(); ++t)
        for (std::size_t h = 0; h < heads; ++h)
          for (std::size_t i = 0; i < f / 2; ++i) {
            const double angle = static_cast<double>(t) *
                                 std::pow(spec_.rope_base, -2.0 * static_cast<double>(i) / static_cast<double>(f));
            double &a = y[t][h * f + i], &b = y[t][h * f + i + f / 2];
            const double turned = a * std::cos(angle) - b * std::sin(angle);
            b = b * std::cos(angle) + a * std::sin(angle);
            a = turned;
          }
      return y;
    };
    const Matrix q = rotated(project(x, place + "q_proj")), k = rotated(project(x, place + "k_proj"));
    Matrix joined(x.size(), std::vector<double>(x[0].size()));
    for (std::size_t t = 0; t < x.size(); ++t)
      for (std::size_t h = 0; h < heads; ++h) {
        std::vector<double> weight(t + 1);
        double total = 0;
        for (std::size_t s = 0; s <= t; ++s) {
          double score = 0;
          for (std::size_t i = 0; i < f; ++i) score += q[t][h * f + i] * k[s][h * f + i];
          total += weight[s] = std::exp(score / std::sqrt(static_cast<double>(f)));
        }
        for (std::size_t s = 0; s <= t; ++s)
          for (std::size_t i = 0; i < f; ++i) joined[t][h * f + i] += weight[s] / total * v[s][h * f + i];
      }
    return project(joined, place + "o_proj");
  }

  Matrix feed_forward(const Matrix& x, const std::string& place) const {
    Matrix gate = project(x, place + "gate_proj");
    const Matrix up = project(x, place + "up_proj");
    for (std::size_t t = 0; t < gate.size(); ++t)
      for (std::size_t i = 0; i < gate[t].size(); ++i) gate[t][i] = gate[t][i] / (1 + std::exp(-gate[t][i])) * up[t][i];
    return project(gate, place + "down_proj");
  }

  ModelSpec spec_;
  std::map<std::string, Matrix> values_;
};

void expect_slow_llama(const ModelSpec& spec) {
  constexpr std::int64_t kMembers = 2, kBatch = 2, kLength = 7;
  const auto model = small_model(spec);
  ModelState state = random_state(*model, kMembers, at::kDouble);
  const at::Tensor tokens = tokens_of(kMembers, kBatch, kLength, 5);
  const at::Tensor got = model->forward(state, batch_of(tokens), {}).view({kMembers, kBatch, kLength, kVocabulary});
  for (std::int64_t k = 0; k < kMembers; ++k) {
    const SlowLlama slow(*model, state, k);
    for (std::int64_t b = 0; b < kBatch; ++b) {
      std::vector<std::int64_t> sequence;
      for (std::int64_t t = 0; t < kLength; ++t) sequence.push_back(tokens[k][b][t].item<std::int64_t>());
      const Matrix expected = slow.logits(sequence);
      for (std::int64_t t = 0; t < kLength; ++t)
        for (std::int64_t c = 0; c < kVocabulary; ++c)
          ASSERT_NEAR(got[k][b][t][c].item<double>(),
                      expected[static_cast<std::size_t>(t)][static_cast<std::size_t>(c)], 1e-10)
              << "member " << k << " sequence " << b << " token " << t << " logit " << c;
    }
  }
}

TEST(TransformerLm, IsTheLlamaOfItsFormulas) {
  expect_slow_llama(small_transformer());
  ModelSpec other = small_transformer();
  other.layers = 1;
  other.heads = 4;
  other.rope_base = 50;
  other.tie_embeddings = true;
  expect_slow_llama(other);
}

TEST(TransformerLm, AddsLoraToTheChosenProjections) {
  ModelSpec spec = small_transformer();
  spec.lora.rank = 3;
  spec.lora.scaling = 1.7;
  spec.lora.projections = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
  expect_slow_llama(spec);
}

TEST(TransformerLm, TakesTokensAlone) {
  for (const SampleKind kind : {SampleKind::fixed, SampleKind::sequence}) {
    try {
      make_transformer_lm(small_transformer(), {{4}, 3, kind, LabelKind::sample});
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::config);
      EXPECT_THAT(error.what(), ::testing::HasSubstr("reads tokens"));
    }
  }
}

TEST(TransformerLm, HasTheGradientOfItsFormulas) {
  ModelSpec spec = small_transformer();
  spec.lora.rank = 2;
  spec.lora.projections = {"q_proj", "down_proj"};
  expect_gradient(spec);
}

TEST(TransformerLm, SeesNoLaterToken) {
  const auto model = small_model(small_transformer());
  ModelState state = random_state(*model, 1, at::kFloat);
  const at::Tensor tokens = tokens_of(1, 1, 20, 8);
  at::Tensor changed = tokens.clone();
  changed[0][0][13] = (changed[0][0][13] + 1) % kVocabulary;
  const at::Tensor a = model->forward(state, batch_of(tokens), {})[0],
                   b = model->forward(state, batch_of(changed), {})[0];
  EXPECT_TRUE(at::equal(a.narrow(0, 0, 13), b.narrow(0, 0, 13)));
  for (std::int64_t t = 13; t < 20; ++t) EXPECT_FALSE(at::equal(a[t], b[t])) << t;
}

TEST(TransformerLm, LoraBeginsAsTheBaseAndLearns) {
  ModelSpec with = small_transformer();
  with.lora.rank = 4;
  const auto base = small_model(small_transformer()), lora = small_model(with);
  ModelState plain = initial_state(base->layout(), 1, 0, 0), extended = initial_state(lora->layout(), 1, 0, 0);
  const Batch batch = batch_of(tokens_of(1, 2, 6, 9));
  EXPECT_TRUE(at::equal(base->forward(plain, batch, {}), lora->forward(extended, batch, {})));
  const auto found = gradients(*lora, extended, batch, normal({1, 12, kVocabulary}, 3));
  for (std::size_t i = 0; i < found.size(); ++i) {
    const ParameterInfo& parameter = lora->layout().parameters[i];
    if (parameter.group != ParameterGroup::lora) continue;
    // d/dA is a product with B, which begins as 0.
    EXPECT_EQ(found[i].abs().max().item<float>() > 0, parameter.name.find("lora_B") != std::string::npos)
        << parameter.name;
  }
}

TEST(TransformerLm, AFrozenBaseGetsNoGradient) {
  ModelSpec spec = small_transformer();
  spec.lora.rank = 2;
  const auto model = small_model(spec);
  ModelState state = random_state(*model, 2, at::kFloat);
  const std::vector<bool> trains = select_parameters(model->layout(), {"lora"});
  std::vector<at::Tensor> trained;
  for (std::size_t i = 0; i < trains.size(); ++i)
    if (trains[i]) trained.push_back(state.parameters[i].requires_grad_(true));
  const at::Tensor logits = model->forward(state, batch_of(tokens_of(2, 2, 5, 4)), {});
  for (const at::Tensor& gradient : torch::autograd::grad({logits}, trained, {at::ones_like(logits)}))
    EXPECT_GT(gradient.abs().max().item<float>(), 0);
  for (std::size_t i = 0; i < trains.size(); ++i) EXPECT_EQ(state.parameters[i].requires_grad(), trains[i]);
}

TEST(TransformerLm, GivesAMemberTheSameBitsInAnyArray) {
  expect_same_bits(small_transformer(), 3, 9);
  ModelSpec wide = small_transformer();
  wide.width = 64;
  wide.heads = 4;
  wide.feed_forward = 0;
  wide.lora.rank = 4;
  expect_same_bits(wide, 4, 33);
}

TEST(TransformerLm, DropsWhatIsAddedToTheStream) {
  const auto model = small_model(small_transformer());
  ModelState state = random_state(*model, 2, at::kFloat);
  DropoutTables tables;
  tables.keys = {{1, 2}, {3, 4}};
  tables.probability = {1.0f, 0.0f};  // nothing is added for the first member, nothing dropped for the second
  tables.epoch = at::zeros({1, 2}, at::kLong);
  tables.position = at::zeros({1, 2}, at::kLong);
  const auto compute = make_cpu_compute();
  DropoutMasks masks(*compute, tables);
  StepCounter counter;
  ForwardMode mode;
  mode.dropout = &masks;
  mode.counter = &counter;
  const at::Tensor tokens = tokens_of(2, 2, 5, 12);
  const at::Tensor got = model->forward(state, batch_of(tokens), mode);
  EXPECT_TRUE(at::equal(got[1], model->forward(state, batch_of(tokens), {})[1]));
  const at::Tensor rows = state.parameters[0][0].index_select(0, tokens[0].flatten());
  const at::Tensor normed =
      rows * ((rows * rows).mean(-1, true) + 1e-6).rsqrt() * state.parameters[state.parameters.size() - 2][0];
  EXPECT_LT(relative_error(got[0], normed.matmul(state.parameters.back()[0].t())), 1e-6);
}

}  // namespace
}  // namespace tenfold::testing

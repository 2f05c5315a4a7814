// The inner loop against a slow one, written here token by token in the primal form, whose inner gradients come from
// autograd; and against golden values.
#include "ttt/inner_loop.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "tests/ttt/golden_tensors.h"
#include "tests/ttt/inner_loop_samples.h"
#include "ttt/inner_loss.h"

namespace tenfold::testing {
namespace {

// Tiny tensors: threads would do nothing but wait for one another.
[[maybe_unused]] const bool one_thread = (at::set_num_threads(1), true);

using torch::autograd::grad;

// One inner model: one member, one stream, one head.
struct Slow {
  std::vector<at::Tensor> fast;  // weights, then biases (1, out)
  at::Tensor gamma, beta;        // (f)
  double eps;

  at::Tensor predict(const std::vector<at::Tensor>& parameters, const at::Tensor& x) const {
    const std::size_t layers = parameters.size() / 2;
    at::Tensor z = x;
    for (std::size_t i = 0; i < layers; ++i) {
      z = at::matmul(z, parameters[i]) + parameters[layers + i][0];
      if (i + 1 < layers) {
        const at::Tensor cubic = 0.79788456080286535588 * z * (1 + 0.044715 * z * z);
        z = 0.5 * z * (1 + at::tanh(cubic));
      }
    }
    return z;
  }
  at::Tensor norm(const at::Tensor& z) const {
    const at::Tensor centred = z - z.mean();
    return gamma * centred / at::sqrt(centred.square().mean() + eps) + beta;
  }
};

// (T, f) outputs of one inner model, differentiable; the final weights go to `slow.fast`.
at::Tensor slow_stream(Slow& slow, const InnerSample& s, std::int64_t k, std::int64_t b, std::int64_t h) {
  const std::int64_t m = s.options.mini_batch_size;
  std::vector<at::Tensor> outputs;
  for (std::int64_t first = 0; first < s.tokens; first += m) {
    const std::int64_t length = std::min(m, s.tokens - first);
    const std::vector<at::Tensor> start = slow.fast;
    std::vector<std::vector<at::Tensor>> steps;  // r_j G_j
    for (std::int64_t j = 0; j < length; ++j) {
      const at::Tensor key = s.in.k[k][b][h][first + j], value = s.in.v[k][b][h][first + j];
      const at::Tensor loss = 0.5 * (slow.norm(slow.predict(start, key)) - (value - key)).square().sum();
      std::vector<at::Tensor> gradient = grad({loss}, start, {}, true, true);
      if (s.options.clip_norm) {
        at::Tensor squared = at::zeros({}, loss.options());
        for (const at::Tensor& part : gradient) squared = squared + part.square().sum();
        const at::Tensor norm = squared.sqrt();
        if (norm.item<double>() > *s.options.clip_norm)
          for (at::Tensor& part : gradient) part = part * (*s.options.clip_norm / norm);
      }
      for (at::Tensor& part : gradient) part = part * s.in.rate[k][b][h][first + j];
      steps.push_back(gradient);
    }
    const auto weights_at = [&](std::int64_t token) {
      std::vector<at::Tensor> w = start;
      const bool all = s.options.dialect == InnerDialect::video_dit;
      for (std::int64_t j = 0; j <= (all ? length - 1 : token); ++j)
        for (std::size_t p = 0; p < w.size(); ++p)
          w[p] =
              w[p] - (s.in.row_coefficient.defined() ? s.in.row_coefficient[k][token] : at::ones({}, w[p].options())) *
                         steps[j][p];
      return w;
    };
    for (std::int64_t i = 0; i < length; ++i) {
      const at::Tensor query = s.in.q[k][b][h][first + i];
      outputs.push_back(query + slow.norm(slow.predict(weights_at(i), query)));
    }
    slow.fast = weights_at(length - 1);
  }
  return at::stack(outputs);
}

struct SlowResult {
  at::Tensor output;                // (K, B, H, T, f)
  std::vector<at::Tensor> weights;  // after the last token, (K, B, H, ...)
};

SlowResult slow_inner_loop(const InnerSample& s) {
  std::vector<at::Tensor> outputs;
  std::vector<std::vector<at::Tensor>> weights(2 * s.layers);
  for (std::int64_t k = 0; k < s.members; ++k)
    for (std::int64_t b = 0; b < s.streams; ++b)
      for (std::int64_t h = 0; h < s.heads; ++h) {
        Slow slow{{}, s.model.norm_weight[k][h], s.model.norm_bias[k][h], s.options.eps};
        for (const at::Tensor& weight : s.model.weights) slow.fast.push_back(weight[k][h]);
        for (const at::Tensor& bias : s.model.biases) slow.fast.push_back(bias[k][h]);
        outputs.push_back(slow_stream(slow, s, k, b, h));
        for (std::size_t p = 0; p < slow.fast.size(); ++p) weights[p].push_back(slow.fast[p]);
      }
  const auto shaped = [&](const std::vector<at::Tensor>& list) {
    return at::stack(list).view({s.members, s.streams, s.heads, list[0].size(0), list[0].size(1)});
  };
  SlowResult result{shaped(outputs), {}};
  for (const auto& list : weights) result.weights.push_back(shaped(list));
  return result;
}

std::vector<at::Tensor> gradients_of(const at::Tensor& output, const std::vector<at::Tensor>& arguments) {
  const at::Tensor probe = normal(output.sizes().vec(), 77).to(output.scalar_type());
  return grad({(output * probe).sum() + output.square().sum()}, arguments);
}

struct Case {
  const char* name;
  int layers;
  InnerDialect dialect = InnerDialect::causal;
  bool rows = true;
  std::int64_t mini_batch = 4;
  std::optional<double> clip = std::nullopt;
};

class InnerLoop : public ::testing::TestWithParam<Case> {
 protected:
  InnerSample sample() const {
    InnerSample s;
    s.layers = GetParam().layers;
    s.options.dialect = GetParam().dialect;
    s.options.mini_batch_size = GetParam().mini_batch;
    s.options.clip_norm = GetParam().clip;
    s.rows = GetParam().rows;
    s.fill();
    return s;
  }
};

// The dual form and its analytic inner gradients against the primal form with autograd's, through the updates too.
TEST_P(InnerLoop, AgreesWithTheTokenByTokenPrimalForm) {
  InnerSample s = sample();
  s.require_gradients();
  const SlowResult slow = slow_inner_loop(s);
  const at::Tensor output = inner_loop(s.model, s.in, s.options).output;
  EXPECT_LT(relative_error(output, slow.output), 1e-12);
  const auto got = gradients_of(output, s.arguments()), expected = gradients_of(slow.output, s.arguments());
  for (std::size_t i = 0; i < got.size(); ++i)
    EXPECT_LT(relative_error(got[i], expected[i]), 1e-10) << "argument " << i;
}

TEST_P(InnerLoop, LeavesTheWeightsOfTheLastRow) {
  InnerSample s = sample();
  const SlowResult slow = [&] {
    InnerSample with_graph = s;
    with_graph.require_gradients();
    return slow_inner_loop(with_graph);
  }();
  InnerState state;
  inner_loop(s.model, s.in, s.options, &state);
  const auto weights = current_weights(state, s.in.row_coefficient, s.options);
  ASSERT_EQ(weights.size(), slow.weights.size());
  for (std::size_t i = 0; i < weights.size(); ++i) EXPECT_LT(relative_error(weights[i], slow.weights[i]), 1e-12);
}

TEST_P(InnerLoop, GroupsRecomputedInTheBackwardPassChangeNothing) {
  InnerSample s = sample();
  s.tokens = 22;
  s.fill();
  s.require_gradients();
  const InnerLoopResult plain = inner_loop(s.model, s.in, s.options);
  const auto expected = gradients_of(plain.output, s.arguments());
  for (const std::int64_t group : {1, 2, 3, 100}) {
    s.options.checkpoint_group_size = group;
    const InnerLoopResult grouped = inner_loop(s.model, s.in, s.options);
    EXPECT_LT(relative_error(grouped.output, plain.output), 1e-14);
    if (s.options.clip_norm) {
      EXPECT_TRUE(at::equal(grouped.clipped_share, plain.clipped_share));
    }
    const auto got = gradients_of(grouped.output, s.arguments());
    for (std::size_t i = 0; i < got.size(); ++i)
      EXPECT_LT(relative_error(got[i], expected[i]), 1e-12) << "group " << group << ", argument " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, InnerLoop,
                         ::testing::Values(Case{"linear", 1}, Case{"mlp", 2}, Case{"three", 3}, Case{"four", 4},
                                           Case{"five", 5}, Case{"single_token", 2, InnerDialect::causal, false, 1},
                                           Case{"causal_without_rows", 2, InnerDialect::causal, false},
                                           Case{"video_dit", 2, InnerDialect::video_dit, false},
                                           Case{"video_dit_linear", 1, InnerDialect::video_dit, false},
                                           Case{"clipped", 2, InnerDialect::causal, true, 4, 1.5},
                                           Case{"clipped_linear", 1, InnerDialect::causal, true, 4, 2.0},
                                           Case{"one_long_mini_batch", 2, InnerDialect::causal, true, 16}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(InnerLoopClipping, TellsTheShareThatWasClipped) {
  InnerSample s;
  s.fill();
  EXPECT_FALSE(inner_loop(s.model, s.in, s.options).clipped_share.defined());
  s.options.clip_norm = 1e-6;
  EXPECT_TRUE(at::equal(inner_loop(s.model, s.in, s.options).clipped_share, at::ones({2}, at::kDouble)));
  s.options.clip_norm = 1e6;
  EXPECT_TRUE(at::equal(inner_loop(s.model, s.in, s.options).clipped_share, at::zeros({2}, at::kDouble)));
  // Somewhere between, some are.
  std::vector<double> shares;
  for (double norm = 1; norm < 100; norm *= 1.5) {
    s.options.clip_norm = norm;
    shares.push_back(inner_loop(s.model, s.in, s.options).clipped_share[0].item<double>());
  }
  EXPECT_TRUE(std::is_sorted(shares.rbegin(), shares.rend()));
  EXPECT_TRUE(std::any_of(shares.begin(), shares.end(), [](double share) { return share > 0 && share < 1; }));
}

// Golden: (B, H, mini-batches, m, f) -> one member's (1, B, H, T, f).
class GoldenInnerLoop : public ::testing::TestWithParam<std::pair<const char*, InnerDialect>> {};

TEST_P(GoldenInnerLoop, AgreesWithTheReferenceProgram) {
  const SafetensorsFile file = golden_file(GetParam().first);
  const auto tensor = [&](const std::string& name) { return golden_tensor(file, name); };
  const auto tokens = [&](const std::string& name) { return tensor(name).flatten(2, 3).unsqueeze(0); };
  const at::Tensor eta = tensor("eta");  // (B, H, n, m, m), equal rows
  const std::int64_t streams = eta.size(0), n = eta.size(2), m = eta.size(3);
  ASSERT_TRUE(at::equal(eta, eta.narrow(3, m - 1, 1).expand_as(eta)));
  InnerModel model{{tensor("W1").unsqueeze(0), tensor("W2").unsqueeze(0)},
                   {tensor("b1").unsqueeze(0), tensor("b2").unsqueeze(0)},
                   tensor("ln_weight").unsqueeze(0),
                   tensor("ln_bias").unsqueeze(0)};
  InnerTokens in;
  in.q = tokens("XQ");
  in.k = tokens("XK");
  in.v = tokens("XV");
  in.rate = eta.select(3, m - 1).flatten(2, 3).unsqueeze(0).contiguous();
  for (at::Tensor* x :
       {&in.q, &in.k, &in.v, &in.rate, &model.weights[0], &model.weights[1], &model.biases[0], &model.biases[1]})
    x->requires_grad_();
  InnerLoopOptions options;
  options.dialect = GetParam().second;
  options.mini_batch_size = m;
  options.eps = 1e-8;
  InnerLossRecorder recorder({7}, 1, 64, at::kCPU);
  InnerState state;
  const at::Tensor output = inner_loop(model, in, options, &state, &recorder, 7).output;

  const at::Tensor expected = tensor("output").permute({0, 3, 1, 2, 4}).flatten(2, 3).unsqueeze(0);
  EXPECT_LT(relative_error(output, expected), 1e-4);
  EXPECT_LT(relative_error(state.weights[0][0], tensor("final_W1")), 1e-4);
  EXPECT_LT(relative_error(state.weights[1][0], tensor("final_W2")), 1e-4);
  EXPECT_LT(relative_error(state.biases[0][0], tensor("final_b1")), 1e-4);
  EXPECT_LT(relative_error(state.biases[1][0], tensor("final_b2")), 1e-4);

  const auto gradients = grad({output.square().sum()}, {in.q, in.k, in.v, in.rate, model.weights[0], model.weights[1],
                                                        model.biases[0], model.biases[1]});
  EXPECT_LT(relative_error(gradients[0], tokens("grad_XQ")), 1e-4);
  EXPECT_LT(relative_error(gradients[1], tokens("grad_XK")), 1e-4);
  EXPECT_LT(relative_error(gradients[2], tokens("grad_XV")), 1e-4);
  // The reference has a rate for every row, ours is one for all.
  EXPECT_LT(relative_error(gradients[3], tensor("grad_eta").sum(3).flatten(2, 3).unsqueeze(0)), 1e-4);
  // The reference has W_0 for every stream.
  const char* names[] = {"grad_W1", "grad_W2", "grad_b1", "grad_b2"};
  for (int i = 0; i < 4; ++i) EXPECT_LT(relative_error(gradients[4 + i][0], tensor(names[i]).sum(0)), 1e-4) << names[i];

  const auto curve = recorder.curves(0)[0];
  const auto per_mini_batch = [&](const std::vector<double>& values) {
    return at::tensor(values, at::kDouble).view({n, m}).mean(1);
  };
  ASSERT_EQ(curve.l0.size(), static_cast<std::size_t>(n * m));
  EXPECT_EQ(curve.weight[0], streams);
  EXPECT_LT(relative_error(per_mini_batch(curve.l0), tensor("l0")), 1e-4);
  EXPECT_LT(relative_error(per_mini_batch(curve.lprev), tensor("lprev")), 1e-4);
  EXPECT_LT(relative_error(per_mini_batch(curve.lafter), tensor("lafter")), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Files, GoldenInnerLoop,
                         ::testing::Values(std::pair{"ttt_mlp_video_dit", InnerDialect::video_dit},
                                           std::pair{"ttt_mlp_single_token", InnerDialect::causal}),
                         [](const auto& info) { return std::string(info.param.first); });

}  // namespace
}  // namespace tenfold::testing

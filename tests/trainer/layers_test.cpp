// Layer functions: the fused ones against the plain ones, gradients against autograd, padding without effect, and the
// same bits whatever the array's size.
#include "trainer/layers.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>

#include <array>
#include <functional>
#include <limits>

#include "tests/trainer/tensors.h"
#include "trainer/compute.h"

namespace tenfold::testing {
namespace {

// Before the first matrix product: it settles how MKL computes (compute_cpu.cpp).
[[maybe_unused]] const std::unique_ptr<Compute> cpu = make_cpu_compute();

struct HiddenCase {
  std::int64_t members, batch, in, out;
  bool mask;
};
class HiddenLayer : public ::testing::TestWithParam<HiddenCase> {
 protected:
  // x, weight, bias, norm weight, norm bias
  std::vector<at::Tensor> inputs() const {
    const HiddenCase& c = GetParam();
    return {normal({c.members, c.batch, c.in}, 1), normal({c.members, c.in, c.out}, 2).mul_(0.3),
            normal({c.members, c.out}, 3), normal({c.members, c.out}, 4).add_(1), normal({c.members, c.out}, 5)};
  }
  at::Tensor mask() const {
    const HiddenCase& c = GetParam();
    return c.mask ? (normal({c.members, c.batch, c.out}, 6) > -0.5).to(at::kFloat).mul_(1.25) : at::Tensor();
  }
};

using Function = std::function<at::Tensor(const std::vector<at::Tensor>&, const at::Tensor& mask)>;
at::Tensor fused(const std::vector<at::Tensor>& in, const at::Tensor& mask) {
  return layers::hidden_layer(in[0], in[1], in[2], in[3], in[4], mask);
}
at::Tensor plain(const std::vector<at::Tensor>& in, const at::Tensor& mask) {
  const at::Tensor y = at::relu(layers::layer_norm(layers::linear(in[0], in[1], in[2]), in[3], in[4]));
  return mask.defined() ? y * mask : y;
}

// Output and the gradients of all inputs for an upstream gradient.
std::vector<at::Tensor> run(const Function& function, std::vector<at::Tensor> in, const at::Tensor& mask,
                            const at::Tensor& upstream) {
  for (at::Tensor& tensor : in) tensor = tensor.detach().clone().requires_grad_(true);
  const at::Tensor out = function(in, mask);
  std::vector<at::Tensor> results = torch::autograd::grad({out}, in, {upstream});
  results.push_back(out.detach());
  return results;
}

TEST_P(HiddenLayer, IsTheLayersItStandsFor) {
  const HiddenCase& c = GetParam();
  const at::Tensor upstream = normal({c.members, c.batch, c.out}, 7);
  const auto got = run(fused, inputs(), mask(), upstream);
  // The plain layers in double: close to them, and not much farther than the plain ones in float.
  std::vector<at::Tensor> doubles = inputs();
  for (at::Tensor& tensor : doubles) tensor = tensor.to(at::kDouble);
  const auto exact = run(plain, doubles, mask().defined() ? mask().to(at::kDouble) : mask(), upstream.to(at::kDouble));
  const std::array<const char*, 6> names = {"x", "weight", "bias", "norm weight", "norm bias", "out"};
  for (std::size_t i = 0; i < got.size(); ++i)
    EXPECT_LT(relative_error(got[i], exact[i]), 2e-5) << "gradient of, or: " << names[i];
}

TEST_P(HiddenLayer, GivesAMemberTheSameBitsInAnyArray) {
  const HiddenCase& c = GetParam();
  const at::Tensor upstream = normal({c.members, c.batch, c.out}, 7);
  const auto whole = run(fused, inputs(), mask(), upstream);
  for (const std::int64_t k : {std::int64_t{0}, c.members - 1}) {
    std::vector<at::Tensor> one = inputs();
    for (at::Tensor& tensor : one) tensor = tensor.narrow(0, k, 1).clone();
    const auto alone =
        run(fused, one, mask().defined() ? mask().narrow(0, k, 1).clone() : mask(), upstream.narrow(0, k, 1).clone());
    for (std::size_t i = 0; i < whole.size(); ++i) EXPECT_TRUE(at::equal(whole[i][k], alone[i][0])) << i;
  }
}

TEST_P(HiddenLayer, ComputesOnlyTheGradientsThatAreAskedFor) {
  std::vector<at::Tensor> in = inputs();
  in[3].requires_grad_(true);
  const at::Tensor out = fused(in, mask());
  const auto some = torch::autograd::grad({out}, {in[3]}, {at::ones_like(out)});
  const auto all = run(fused, inputs(), mask(), at::ones_like(out));
  EXPECT_TRUE(at::equal(some[0], all[3]));
}

INSTANTIATE_TEST_SUITE_P(Shapes, HiddenLayer,
                         ::testing::Values(HiddenCase{3, 5, 4, 7, true}, HiddenCase{2, 1, 3, 17, false},
                                           HiddenCase{5, 32, 64, 128, true}, HiddenCase{3, 64, 128, 16, false},
                                           HiddenCase{7, 9, 6, 1, true}, HiddenCase{4, 33, 10, 100, true}));

TEST(CrossEntropy, HasTheGradientOfItsFormulaUnderSmoothingAndPadding) {
  constexpr std::int64_t kMembers = 3, kBatch = 6, kClasses = 5;
  const std::vector<double> smoothing = {0.0, 0.1, 0.4};
  const std::vector<std::int64_t> real = {6, 1, 4};
  const at::Tensor logits = normal({kMembers, kBatch, kClasses}, 1).mul_(3);
  at::Tensor target = at::zeros({kMembers, kBatch, kClasses}), weight = at::zeros({kMembers, kBatch});
  at::Tensor leaf = logits.to(at::kDouble).requires_grad_(true);
  std::vector<at::Tensor> losses;
  for (std::int64_t k = 0; k < kMembers; ++k) {
    const double s = smoothing[static_cast<std::size_t>(k)];
    at::Tensor loss = at::zeros({}, at::kDouble);
    const std::int64_t n = real[static_cast<std::size_t>(k)];
    for (std::int64_t b = 0; b < kBatch; ++b) {
      const std::int64_t label = (b * 2 + k) % kClasses;
      target[k][b] = static_cast<float>(s / kClasses);
      target[k][b][label] += static_cast<float>(1 - s);
      if (b >= n) continue;
      weight[k][b] = 1;
      const at::Tensor p = leaf[k][b].exp() / leaf[k][b].exp().sum();
      loss = loss - (1 - s) * p[label].log() / n - s / kClasses * p.log().sum() / n;
    }
    losses.push_back(loss);
  }
  const at::Tensor gradient = torch::autograd::grad({at::stack(losses).sum()}, {leaf})[0];
  const layers::LossAndGradient got = layers::cross_entropy(logits, target, weight);
  EXPECT_LT(relative_error(got.loss, at::stack(losses)), 1e-6);
  EXPECT_LT(relative_error(got.logit_gradient, gradient), 1e-6);
  EXPECT_EQ(got.logit_gradient[1].narrow(0, 1, 5).abs().max().item<float>(), 0.0f);
}

struct NormRun {
  at::Tensor out, mean, var;
  std::vector<at::Tensor> gradients;  // x, weight, bias
};
NormRun batch_norm_of(const at::Tensor& x, const at::Tensor& sample_weight, bool batch_statistics, double momentum) {
  const std::int64_t members = x.size(0), features = x.size(2);
  layers::BatchNormState state{normal({members, features}, 3), normal({members, features}, 4).abs_().add_(0.5)};
  std::vector<at::Tensor> leaves = {x.clone(), normal({members, features}, 1), normal({members, features}, 2)};
  for (at::Tensor& leaf : leaves) leaf.requires_grad_(true);
  const at::Tensor out = layers::batch_norm(leaves[0], leaves[1], leaves[2], state, sample_weight, batch_statistics,
                                            at::full({members}, momentum));
  std::vector<std::int64_t> shape(static_cast<std::size_t>(x.dim()), 1);
  shape[0] = members;
  shape[1] = x.size(1);
  const at::Tensor upstream = normal(out.sizes().vec(), 5) * sample_weight.view(shape);
  return {out.detach(), state.running_mean, state.running_var, torch::autograd::grad({out}, leaves, {upstream})};
}

TEST(BatchNorm, TakesTheRealSamplesAloneAndMovesRunningValuesAsTorch) {
  for (const bool image : {false, true}) {
    const at::Tensor x = image ? normal({2, 7, 3, 4, 2}, 9) : normal({2, 7, 3}, 9);
    at::Tensor weight = at::ones({2, 7});
    weight.narrow(1, 5, 2).zero_();
    at::Tensor padded = x.clone();
    padded.narrow(1, 5, 2).fill_(1e3);  // what lies in the padding does not matter
    const NormRun with_padding = batch_norm_of(padded, weight, true, 0.1);
    for (std::int64_t k = 0; k < 2; ++k) {
      const at::Tensor real = x[k].narrow(0, 0, 5).clone().requires_grad_(true);
      at::Tensor mean = normal({2, 3}, 3)[k].clone(), var = normal({2, 3}, 4).abs_().add_(0.5)[k].clone();
      const at::Tensor expected =
          at::batch_norm(real, normal({2, 3}, 1)[k], normal({2, 3}, 2)[k], mean, var, true, 0.1, 1e-5, false);
      EXPECT_LT(relative_error(with_padding.out[k].narrow(0, 0, 5), expected), 1e-5) << image;
      const at::Tensor upstream = normal(x.sizes().vec(), 5)[k].narrow(0, 0, 5);
      const at::Tensor gradient = torch::autograd::grad({expected}, {real}, {upstream})[0];
      EXPECT_LT(relative_error(with_padding.gradients[0][k].narrow(0, 0, 5), gradient), 1e-4) << image;
      EXPECT_LT(relative_error(with_padding.mean[k], mean), 1e-5) << image;
      EXPECT_LT(relative_error(with_padding.var[k], var), 1e-5) << image;
    }
    EXPECT_EQ(with_padding.gradients[0].narrow(1, 5, 2).abs().max().item<float>(), 0.0f) << image;
    // momentum 0: a member that must not change
    EXPECT_TRUE(at::equal(batch_norm_of(padded, weight, true, 0.0).mean, normal({2, 3}, 3)));
    const NormRun eval = batch_norm_of(x, weight, false, 0.1);
    EXPECT_TRUE(at::equal(eval.mean, normal({2, 3}, 3)));
    const at::Tensor mean = normal({2, 3}, 3), var = normal({2, 3}, 4).abs_().add_(0.5);
    const at::Tensor expected =
        at::batch_norm(x[1], normal({2, 3}, 1)[1], normal({2, 3}, 2)[1], mean[1], var[1], false, 0.1, 1e-5, false);
    EXPECT_LT(relative_error(eval.out[1], expected), 1e-5) << image;
  }
}

TEST(BatchNorm, LeavesRunningValuesOfARestingMemberWithNansAlone) {
  at::Tensor x = normal({2, 4, 3}, 1);
  x[0].fill_(std::numeric_limits<float>::quiet_NaN());
  layers::BatchNormState state{at::ones({2, 3}), at::ones({2, 3})};
  at::Tensor momentum = at::tensor({0.0f, 0.5f});
  layers::batch_norm(x, at::ones({2, 3}), at::zeros({2, 3}), state, at::ones({2, 4}), true, momentum);
  EXPECT_TRUE(at::equal(state.running_mean[0], at::ones({3})));
  EXPECT_TRUE(at::isfinite(state.running_mean[1]).all().item<bool>());
  EXPECT_FALSE(at::equal(state.running_mean[1], at::ones({3})));
}

TEST(Conv2d, IsTheSameByMatrixProductsAndOneMemberAtATime) {
  for (const std::int64_t kernel : {1, 3, 5}) {
    const at::Tensor x = normal({3, 4, 2, 6, 5}, 1), weight = normal({3, 7, 2, kernel, kernel}, 2),
                     bias = normal({3, 7}, 3);
    const at::Tensor grouped = layers::conv2d(x, weight, bias, false);
    const at::Tensor deterministic = layers::conv2d(x, weight, bias, true);
    EXPECT_LT(relative_error(deterministic, grouped), 1e-5);
    for (std::int64_t k = 0; k < 3; ++k) {
      const at::Tensor expected = at::conv2d(x[k], weight[k], bias[k], {1, 1}, at::IntArrayRef{kernel / 2, kernel / 2});
      EXPECT_LT(relative_error(grouped[k], expected), 1e-5) << kernel;
      const auto one = [k](const at::Tensor& t) { return t.narrow(0, k, 1).clone(); };
      EXPECT_TRUE(at::equal(layers::conv2d(one(x), one(weight), one(bias), true)[0], deterministic[k])) << kernel;
    }
  }
}

TEST(LayerNorm, OfImagesIsAGroupNormOfOneGroup) {
  const at::Tensor x = normal({2, 3, 4, 5, 6}, 1), weight = normal({2, 4}, 2), bias = normal({2, 4}, 3);
  const at::Tensor got = layers::layer_norm_image(x, weight, bias);
  for (std::int64_t k = 0; k < 2; ++k)
    EXPECT_LT(relative_error(got[k], at::group_norm(x[k], 1, weight[k], bias[k], 1e-5)), 1e-5);
}

// A layer by its name on x, weight, bias, each (K, ...): the same bits for a member whatever K is, forward and
// backward.
struct StackedCase {
  const char* name;
  std::vector<std::int64_t> x, weight, bias;  // without K
};
class Stacked : public ::testing::TestWithParam<StackedCase> {};

at::Tensor apply_layer(const std::string& name, const std::vector<at::Tensor>& in) {
  const std::int64_t members = in[0].size(0), batch = in[0].size(1);
  if (name == "linear") return layers::linear(in[0], in[1], in[2]);
  if (name == "layer_norm") return layers::layer_norm(in[0], in[1], in[2]);
  if (name == "layer_norm_image") return layers::layer_norm_image(in[0], in[1], in[2]);
  if (name == "conv2d") return layers::conv2d(in[0], in[1], in[2], true);
  layers::BatchNormState state{at::zeros_like(in[1]), at::ones_like(in[1])};
  at::Tensor weight = at::ones({members, batch});
  weight.narrow(1, batch - 3, 3).zero_();
  return layers::batch_norm(in[0], in[1], in[2], state, weight, true, at::ones({members}));
}

TEST_P(Stacked, GivesAMemberTheSameBitsInAnyArray) {
  const StackedCase& c = GetParam();
  const auto stacked = [](std::vector<std::int64_t> shape) {
    shape.insert(shape.begin(), 6);
    return shape;
  };
  const std::vector<at::Tensor> inputs = {normal(stacked(c.x), 1), normal(stacked(c.weight), 2),
                                          normal(stacked(c.bias), 3)};
  const auto results = [&](std::int64_t first, std::int64_t members) {
    std::vector<at::Tensor> in;
    for (const at::Tensor& tensor : inputs) in.push_back(tensor.narrow(0, first, members).clone().requires_grad_(true));
    const at::Tensor out = apply_layer(c.name, in);
    std::vector<std::int64_t> shape = out.sizes().vec();
    shape[0] = 6;
    std::vector<at::Tensor> all =
        torch::autograd::grad({out}, in, {normal(shape, 4).narrow(0, first, members).clone()});
    all.push_back(out.detach());
    return all;
  };
  const auto whole = results(0, 6), two = results(2, 2), one = results(3, 1);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    EXPECT_TRUE(at::equal(whole[i][3], two[i][1])) << i;
    EXPECT_TRUE(at::equal(whole[i][3], one[i][0])) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, Stacked,
    ::testing::Values(StackedCase{"linear", {64, 64}, {64, 128}, {128}},
                      StackedCase{"linear", {33, 128}, {128, 10}, {10}}, StackedCase{"linear", {16, 7}, {7, 1}, {1}},
                      StackedCase{"layer_norm", {64, 128}, {128}, {128}}, StackedCase{"layer_norm", {17, 5}, {5}, {5}},
                      StackedCase{"batch_norm", {64, 128}, {128}, {128}}, StackedCase{"batch_norm", {9, 3}, {3}, {3}},
                      StackedCase{"batch_norm", {32, 16, 8, 8}, {16}, {16}},
                      StackedCase{"layer_norm_image", {32, 16, 8, 8}, {16}, {16}},
                      StackedCase{"layer_norm_image", {5, 3, 5, 3}, {3}, {3}},
                      StackedCase{"conv2d", {32, 3, 8, 8}, {16, 3, 3, 3}, {16}}),
    [](const auto& info) { return std::string(info.param.name) + std::to_string(info.index); });

}  // namespace
}  // namespace tenfold::testing

// Objectives against their formulas, computed here in double with plain loops, and their gradients against central
// differences of those.
#include "ttt/objective.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "datasets/philox.h"
#include "experiments/error.h"

namespace tenfold {
namespace {

using Logits = std::vector<std::vector<double>>;  // [sample][class], real samples alone

struct Expected {
  double total = 0, entropy = 0, diversity = 0, weight = 0, h = 0;
  std::vector<double> mean;
};

std::vector<double> softmax(const std::vector<double>& z) {
  const double largest = *std::max_element(z.begin(), z.end());
  std::vector<double> p;
  double sum = 0;
  for (const double value : z) sum += p.emplace_back(std::exp(value - largest));
  for (double& value : p) value /= sum;
  return p;
}

// formulas.md, section 1. `fixed_weight` holds the weight while logits are moved, for gradients.
Expected expect_of(const TttSpec& spec, const Logits& logits, const double* fixed_weight = nullptr) {
  Expected e;
  const double eps = spec.method == "shot_im" ? 1e-5 : 1e-8;
  const std::size_t classes = logits.front().size();
  e.mean.assign(classes, 0.0);
  for (const auto& z : logits) {
    const std::vector<double> p = softmax(z);
    for (std::size_t c = 0; c < classes; ++c) {
      e.entropy -= p[c] * std::log(p[c] + eps) / static_cast<double>(logits.size());
      e.mean[c] += p[c] / static_cast<double>(logits.size());
    }
  }
  double mean_entropy = 0;
  for (const double p : e.mean) mean_entropy -= p * std::log(p + eps);
  e.h = mean_entropy / std::log(static_cast<double>(classes));
  e.diversity = 1 - e.h;
  if (spec.method == "entropy_diversity") {
    e.weight = spec.diversity_weight;
    const auto& adaptive = spec.adaptive_weight;
    if (adaptive.enabled && e.h < adaptive.target)
      e.weight = std::min(e.weight + adaptive.slope * (adaptive.target - e.h), adaptive.max);
    if (fixed_weight != nullptr) e.weight = *fixed_weight;
    e.total = e.entropy + e.weight * e.diversity;
  } else if (spec.method == "shot_im") {
    e.weight = std::log(static_cast<double>(classes));
    e.total = e.entropy - mean_entropy;
  } else {
    e.total = e.entropy;
  }
  return e;
}

TttSpec method(const std::string& name) {
  TttSpec spec;
  spec.method = name;
  return spec;
}

// K members with `real[k]` samples of B; values of +-scale, keyed by the member.
struct Batch {
  at::Tensor logits, weights;
  std::vector<Logits> real;
};
Batch random_batch(const std::vector<std::int64_t>& real, std::int64_t batch, std::int64_t classes, double scale) {
  const auto members = static_cast<std::int64_t>(real.size());
  Batch made{at::zeros({members, batch, classes}), at::zeros({members, batch}), {}};
  for (std::int64_t k = 0; k < members; ++k) {
    std::vector<float> values(static_cast<std::size_t>(batch * classes));
    fill_normal(RandomStream(11, Purpose::synthetic, 0, static_cast<int>(k), 0), values);
    Logits& rows = made.real.emplace_back();
    for (std::int64_t b = 0; b < batch; ++b) {
      const bool is_real = b < real[static_cast<std::size_t>(k)];
      if (is_real) rows.emplace_back();
      if (is_real) made.weights[k][b] = 1.0f;
      for (std::int64_t c = 0; c < classes; ++c) {
        // Classes are not alike, so that the mean prediction is lopsided.
        const float z = static_cast<float>(scale) * (values[static_cast<std::size_t>(b * classes + c)] + 0.5f * c);
        made.logits[k][b][c] = z;
        if (is_real) rows.back().push_back(z);
      }
    }
  }
  return made;
}

void expect_matches(const TttSpec& spec, const BatchObjective& got, std::int64_t k, const Logits& logits) {
  const Expected e = expect_of(spec, logits);
  EXPECT_NEAR(got.total[k].item<double>(), e.total, 2e-6);
  EXPECT_NEAR(got.entropy[k].item<double>(), e.entropy, 2e-6);
  EXPECT_NEAR(got.diversity[k].item<double>(), e.diversity, 2e-6);
  EXPECT_NEAR(got.diversity_weight[k].item<double>(), e.weight, 2e-6);
  for (std::size_t c = 0; c < e.mean.size(); ++c)
    EXPECT_NEAR(got.mean_probability[k][static_cast<std::int64_t>(c)].item<double>(), e.mean[c], 1e-6);
  for (std::size_t b = 0; b < logits.size(); ++b)
    for (std::size_t c = 0; c < e.mean.size(); ++c) {
      Logits up = logits, down = logits;
      constexpr double kStep = 1e-5;
      up[b][c] += kStep;
      down[b][c] -= kStep;
      const double slope =
          (expect_of(spec, up, &e.weight).total - expect_of(spec, down, &e.weight).total) / (2 * kStep);
      const auto row = static_cast<std::int64_t>(b), column = static_cast<std::int64_t>(c);
      EXPECT_NEAR(got.logit_gradient[k][row][column].item<double>(), slope, 2e-6) << "sample " << b << " class " << c;
    }
}

class Method : public ::testing::TestWithParam<const char*> {};

TEST_P(Method, FollowsItsFormulaAndGradientWithPaddingInUnequalBatches) {
  const TttSpec spec = method(GetParam());
  const std::vector<TttSpec> specs(4, spec);
  const auto objective = make_objective(spec.method, specs, at::kCPU);
  for (const double scale : {0.3, 2.0, 15.0}) {  // 15: probabilities next to one-hot
    const Batch batch = random_batch({5, 1, 3, 5}, 5, 4, scale);
    const BatchObjective got = objective->evaluate(batch.logits, batch.weights);
    for (std::int64_t k = 0; k < 4; ++k) {
      SCOPED_TRACE("scale " + std::to_string(scale) + " member " + std::to_string(k));
      const Logits& real = batch.real[static_cast<std::size_t>(k)];
      expect_matches(spec, got, k, real);
      for (std::int64_t b = static_cast<std::int64_t>(real.size()); b < 5; ++b)
        EXPECT_EQ(got.logit_gradient[k][b].abs().max().item<float>(), 0.0f);
    }
  }
}

TEST_P(Method, IsZeroWithoutSamples) {
  const TttSpec spec = method(GetParam());
  const auto objective = make_objective(spec.method, std::vector<TttSpec>(2, spec), at::kCPU);
  const Batch batch = random_batch({0, 3}, 3, 4, 1.0);
  const BatchObjective got = objective->evaluate(batch.logits, batch.weights);
  EXPECT_EQ(got.total[0].item<float>(), 0.0f);
  EXPECT_EQ(got.entropy[0].item<float>(), 0.0f);
  EXPECT_EQ(got.diversity[0].item<float>(), 0.0f);
  EXPECT_EQ(got.logit_gradient[0].abs().max().item<float>(), 0.0f);
  expect_matches(spec, got, 1, batch.real[1]);
}

// What a member gets depends on nothing but the member: bit for bit.
TEST_P(Method, DoesNotMixMembers) {
  const TttSpec spec = method(GetParam());
  const auto same = [&](const at::Tensor& together, const at::Tensor& alone, std::int64_t k) {
    return at::equal(together[k], alone[0]);
  };
  Batch batch = random_batch({7, 7, 4, 7, 2}, 7, 10, 2.0);
  batch.logits[1].fill_(std::numeric_limits<float>::quiet_NaN());
  batch.logits[3][2][1] = std::numeric_limits<float>::infinity();
  const BatchObjective all =
      make_objective(spec.method, std::vector<TttSpec>(5, spec), at::kCPU)->evaluate(batch.logits, batch.weights);
  EXPECT_TRUE(std::isnan(all.total[1].item<float>()));
  EXPECT_FALSE(std::isfinite(all.total[3].item<float>()));
  for (const std::int64_t k : {0, 2, 4}) {
    const BatchObjective one = make_objective(spec.method, std::vector<TttSpec>(1, spec), at::kCPU)
                                   ->evaluate(batch.logits.narrow(0, k, 1).clone(), batch.weights.narrow(0, k, 1));
    EXPECT_TRUE(same(all.total, one.total, k) && same(all.entropy, one.entropy, k) &&
                same(all.diversity, one.diversity, k) && same(all.mean_probability, one.mean_probability, k) &&
                same(all.logit_gradient, one.logit_gradient, k))
        << k;
  }
}

INSTANTIATE_TEST_SUITE_P(Objectives, Method, ::testing::Values("entropy_diversity", "tent", "shot_im"));

TEST(EntropyDiversity, RaisesItsWeightByMemberWhereClassesCollapse) {
  TttSpec fixed = method("entropy_diversity"), adaptive = fixed, capped = fixed;
  adaptive.adaptive_weight.enabled = capped.adaptive_weight.enabled = true;
  adaptive.adaptive_weight.max = 0.9;
  capped.diversity_weight = 0.1;
  const std::vector<TttSpec> specs = {fixed, adaptive, capped, adaptive};
  Batch batch = random_batch({6, 6, 6, 6}, 6, 3, 2.0);
  for (std::int64_t k = 0; k < 3; ++k) {  // towards one class; the fourth member's classes are balanced
    batch.logits[k].select(1, 0).add_(9.0);
    for (auto& row : batch.real[static_cast<std::size_t>(k)]) row[0] += 9.0;
  }
  batch.logits[3].mul_(0.01);
  for (auto& row : batch.real[3])
    for (double& z : row) z = static_cast<double>(static_cast<float>(z) * 0.01f);
  const BatchObjective got =
      make_objective("entropy_diversity", specs, at::kCPU)->evaluate(batch.logits, batch.weights);
  for (std::int64_t k = 0; k < 4; ++k) {
    SCOPED_TRACE(k);
    expect_matches(specs[static_cast<std::size_t>(k)], got, k, batch.real[static_cast<std::size_t>(k)]);
  }
  EXPECT_FLOAT_EQ(got.diversity_weight[0].item<float>(), 0.15f);
  EXPECT_GT(got.diversity_weight[1].item<float>(), 0.31f);
  EXPECT_FLOAT_EQ(got.diversity_weight[2].item<float>(), 0.3f);
  EXPECT_FLOAT_EQ(got.diversity_weight[3].item<float>(), 0.15f);
}

TEST(EntropyDiversity, IsBoundedByItsExtremes) {
  const auto objective =
      make_objective("entropy_diversity", std::vector<TttSpec>(2, method("entropy_diversity")), at::kCPU);
  at::Tensor logits = at::zeros({2, 4, 4});
  logits[1].select(1, 2).fill_(1000.0);  // one class, certainly: no entropy, no diversity of classes
  const BatchObjective got = objective->evaluate(logits, at::ones({2, 4}));
  EXPECT_NEAR(got.entropy[0].item<double>(), std::log(4.0), 1e-6);
  EXPECT_NEAR(got.diversity[0].item<double>(), 0, 1e-6);
  EXPECT_NEAR(got.entropy[1].item<double>(), 0, 1e-6);
  EXPECT_NEAR(got.diversity[1].item<double>(), 1, 1e-6);
  EXPECT_TRUE(at::isfinite(got.logit_gradient).all().item<bool>());
}

TEST(MakeObjective, KnowsWhoHasNone) {
  const std::vector<TttSpec> specs(1);
  EXPECT_EQ(make_objective("source", specs, at::kCPU), nullptr);
  EXPECT_EQ(make_objective("bn", specs, at::kCPU), nullptr);
  EXPECT_THROW(make_objective("eata", specs, at::kCPU), Error);
}

}  // namespace
}  // namespace tenfold

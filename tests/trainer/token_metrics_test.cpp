#include "trainer/token_metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "experiments/error.h"
#include "experiments/metric.h"

namespace tenfold::testing {
namespace {

// Two samples of 2 and 1 predicted tokens.
TokenScores scores() { return {{1.0f, 2.0f, 3.0f}, {0.5f, 0.9f, 0.2f}, {1, 0, 1}, {7, 8, 7}}; }

double value(const TokenScores& of, const std::string& name, std::vector<std::int32_t> bytes = {}) {
  const std::vector<std::string> names = {name};
  const auto rows = token_metrics(of, names, bytes, Phase::after, 3);
  EXPECT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].metric, metric_index(name));
  EXPECT_EQ(rows[0].total, 3);
  EXPECT_EQ(rows[0].hits >= 0, name == "accuracy");
  return rows[0].value;
}

TEST(TokenMetrics, AreThoseOfTheFormulas) {
  EXPECT_DOUBLE_EQ(value(scores(), "accuracy"), 2.0 / 3);
  EXPECT_DOUBLE_EQ(value(scores(), "nll"), 2);
  EXPECT_DOUBLE_EQ(value(scores(), "perplexity"), std::exp(2.0));
  // Token 7 has 2 bytes, token 8 has 4: 6 nats over 8 bytes.
  std::vector<std::int32_t> bytes(9, 1);
  bytes[7] = 2;
  bytes[8] = 4;
  EXPECT_DOUBLE_EQ(value(scores(), "bits_per_byte", bytes), 6 / std::numbers::ln2 / 8);
  EXPECT_TRUE(std::isnan(value(scores(), "bits_per_byte")));
  EXPECT_NEAR(value(scores(), "ece"), (0.5 + 0.9 + 0.8) / 3, 1e-6);
}

TEST(TokenMetrics, WhatIsNotFiniteIsNaN) {
  TokenScores bad = scores();
  bad.nll[1] = std::nanf("");
  for (const char* name : {"nll", "perplexity", "bits_per_byte", "ece"})
    EXPECT_TRUE(std::isnan(value(bad, name))) << name;
  EXPECT_DOUBLE_EQ(value(bad, "accuracy"), 2.0 / 3);
}

TEST(TokenMetrics, RefusesTheOnesOfClassifiers) {
  const std::vector<std::string> names = {"macro_f1"};
  EXPECT_THROW(token_metrics(scores(), names, {}, Phase::after, 0), Error);
}

TEST(PositionLosses, AverageTheSamplesThatReachAPosition) {
  const std::vector<std::int64_t> counts = {2, 1};
  const auto rows = position_losses(scores(), counts, Phase::before, 5);
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].position, 0);
  EXPECT_DOUBLE_EQ(rows[0].loss, 2);  // (1 + 3) / 2
  EXPECT_DOUBLE_EQ(rows[0].weight, 2);
  EXPECT_DOUBLE_EQ(rows[1].loss, 2);
  EXPECT_DOUBLE_EQ(rows[1].weight, 1);
  EXPECT_EQ(rows[1].step, 5);
  EXPECT_EQ(rows[1].phase, Phase::before);
}

}  // namespace
}  // namespace tenfold::testing

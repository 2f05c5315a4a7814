#include "trainer/classification_metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "experiments/error.h"
#include "experiments/metric.h"

namespace tenfold {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

EvaluationRow one(const std::string& metric, const std::vector<float>& logits, const std::vector<std::int64_t>& labels,
                  int classes, int held_out = -1) {
  const std::vector<std::string> names = {metric};
  return classification_metrics({logits, labels, classes, held_out}, names, Phase::after, 50).at(0);
}

// Logits whose softmax is (p, 1 - p).
std::vector<float> two_class(const std::vector<double>& first) {
  std::vector<float> logits;
  for (const double p : first) {
    logits.push_back(static_cast<float>(std::log(p / (1 - p))));
    logits.push_back(0.0f);
  }
  return logits;
}

TEST(ClassificationMetrics, CountsHits) {
  const EvaluationRow row = one("accuracy", {2, 1, 0, 0, 1, 2, 5, 5, 1}, {0, 1, 0}, 3);
  EXPECT_DOUBLE_EQ(row.value, 2.0 / 3) << "of equal logits the first counts";
  EXPECT_EQ(row.hits, 2);
  EXPECT_EQ(row.total, 3);
  EXPECT_EQ(row.step, 50);
  EXPECT_EQ(row.phase, Phase::after);
  EXPECT_EQ(row.metric, metric_index("accuracy"));
}

TEST(ClassificationMetrics, RowsComeInTheOrderOfTheNames) {
  const std::vector<std::string> names = {"ece", "accuracy", "nll"};
  const std::vector<float> logits = {1, 0};
  const std::vector<std::int64_t> labels = {0};
  const auto rows = classification_metrics({logits, labels, 2, -1}, names, Phase::before, 0);
  ASSERT_EQ(rows.size(), 3u);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(rows[i].metric, metric_index(names[i]));
}

// Every metric that is declared can be computed, and nothing else.
TEST(ClassificationMetrics, KnowsAllDeclaredMetrics) {
  for (const MetricInfo& metric : metrics()) {
    if (metric.name == "bits_per_byte" || !metric.listed) continue;  // of language models: token_metrics_test.cpp
    const EvaluationRow row = one(std::string(metric.name), {1, 0, 0, 1, 2, 0}, {0, 1, 1}, 2, 1);
    EXPECT_TRUE(std::isfinite(row.value)) << metric.name;
    EXPECT_EQ(row.hits >= 0, metric.counts) << metric.name;
  }
  try {
    one("acuracy", {1, 0}, {0}, 2);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::config);
    EXPECT_NE(std::string(error.what()).find("accuracy, balanced_accuracy"), std::string::npos);
  }
}

TEST(ClassificationMetrics, BalancedAccuracyAndMacroF1ByHand) {
  // labels 0 0 0 1, predicted 0 0 1 1, class 2 does not occur: recall 2/3 and 1; F1 = 4/5 and 2/3
  const std::vector<float> logits = {9, 0, 0, 9, 0, 0, 0, 9, 0, 0, 9, 0};
  const std::vector<std::int64_t> labels = {0, 0, 0, 1};
  EXPECT_DOUBLE_EQ(one("balanced_accuracy", logits, labels, 3).value, (2.0 / 3 + 1) / 2);
  EXPECT_DOUBLE_EQ(one("macro_f1", logits, labels, 3).value, (4.0 / 5 + 2.0 / 3) / 2);
  // A class that is only predicted has an F1 of 0, and no recall.
  EXPECT_DOUBLE_EQ(one("macro_f1", {0, 9, 9, 0}, {0, 0}, 2).value, (2.0 / 3 + 0) / 2);
  EXPECT_DOUBLE_EQ(one("balanced_accuracy", {0, 9, 9, 0}, {0, 0}, 2).value, 0.5);
}

TEST(ClassificationMetrics, LikelihoodAndBrierByHand) {
  const std::vector<float> logits = two_class({0.8, 0.3});
  EXPECT_NEAR(one("nll", logits, {0, 0}, 2).value, -(std::log(0.8) + std::log(0.3)) / 2, 1e-7);
  EXPECT_NEAR(one("brier", logits, {0, 0}, 2).value, (2 * 0.04 + 2 * 0.49) / 2, 1e-7);
  EXPECT_NEAR(one("nll", std::vector<float>(10, 3.0f), {4}, 10).value, std::log(10.0), 1e-12);
  // Large logits neither overflow nor lose the small side.
  EXPECT_DOUBLE_EQ(one("nll", {3e38f, 0}, {0}, 2).value, 0.0);
  EXPECT_NEAR(one("nll", {1000, 0}, {1}, 2).value, 1000.0, 1e-9);
}

TEST(ClassificationMetrics, CalibrationErrorByHand) {
  // Two samples of confidence 0.8 in one bin, one hit: |0.5 - 0.8|; one of 0.95, hit: 0.05. Weighted by 2/3 and 1/3.
  const std::vector<float> logits = two_class({0.81, 0.82, 0.95});
  EXPECT_NEAR(one("ece", logits, {0, 1, 0}, 2).value, (std::abs(1 - 0.81 - 0.82) + 0.05) / 3, 1e-7);
  // In one bin over- and underconfidence cancel: that is what binning means.
  EXPECT_NEAR(one("ece", two_class({0.75, 0.75, 0.75, 0.75}), {0, 0, 0, 1}, 2).value, 0.0, 1e-7);
  EXPECT_DOUBLE_EQ(one("ece", {200, 0, 0, 200}, {0, 1}, 2).value, 0.0);
  EXPECT_DOUBLE_EQ(one("ece", {200, 0, 0, 200}, {1, 0}, 2).value, 1.0);
}

TEST(ClassificationMetrics, UnseenClassesAreFoundByLowConfidence) {
  // Class 1 is held out. Confidences of others .9 .8 .6, of unseen .7 .55: 5 of 6 pairs are ordered.
  const std::vector<double> first = {0.9, 0.8, 0.6, 0.7, 0.55};
  const std::vector<std::int64_t> labels = {0, 0, 0, 1, 1};
  const EvaluationRow auroc = one("auroc_unseen", two_class(first), labels, 2, 1);
  EXPECT_DOUBLE_EQ(auroc.value, 5.0 / 6);
  EXPECT_EQ(auroc.total, 5);
  const EvaluationRow rate = one("detection_rate_5", two_class(first), labels, 2, 1);
  EXPECT_EQ(rate.hits, 1) << "no false alarm is allowed among three";
  EXPECT_EQ(rate.total, 2);
  EXPECT_DOUBLE_EQ(rate.value, 0.5);
}

TEST(ClassificationMetrics, TiesCountHalf) {
  EXPECT_DOUBLE_EQ(one("auroc_unseen", std::vector<float>(8, 1.0f), {0, 1, 0, 1}, 2, 1).value, 0.5);
  EXPECT_DOUBLE_EQ(one("detection_rate_5", std::vector<float>(8, 1.0f), {0, 1, 0, 1}, 2, 1).value, 0.0);
  // .9 against .9 is a tie, .9 against .6 is lost: (0.5 + 0) / 2
  EXPECT_DOUBLE_EQ(one("auroc_unseen", two_class({0.9, 0.6, 0.9}), {0, 0, 1}, 2, 1).value, 0.25);
}

TEST(ClassificationMetrics, AreaEqualsTheShareOfOrderedPairs) {
  std::mt19937 random(3);
  for (int round = 0; round < 50; ++round) {
    std::vector<double> first;
    std::vector<std::int64_t> labels;
    for (int i = 0; i < 60; ++i) {
      first.push_back(0.5 + 0.02 * (1 + random() % 20));
      labels.push_back(i < 2 ? i : random() % 2);
    }
    const std::vector<float> logits = two_class(first);
    double ordered = 0, pairs = 0;
    for (std::size_t i = 0; i < labels.size(); ++i)
      for (std::size_t j = 0; j < labels.size(); ++j)
        if (labels[i] == 1 && labels[j] == 0) {
          ++pairs;
          ordered += logits[2 * i] < logits[2 * j] ? 1 : logits[2 * i] == logits[2 * j] ? 0.5 : 0;
        }
    EXPECT_NEAR(one("auroc_unseen", logits, labels, 2, 1).value, ordered / pairs, 1e-12);
  }
}

TEST(ClassificationMetrics, FivePercentOfFalseAlarmsAreAllowed) {
  // 40 others with confidences .60, .61, ..., .99: two may lie below the threshold, so it is .62.
  std::vector<double> first;
  std::vector<std::int64_t> labels;
  for (int i = 0; i < 40; ++i) {
    first.push_back(0.60 + 0.01 * i);
    labels.push_back(0);
  }
  for (const double unseen : {0.55, 0.595, 0.615, 0.625, 0.7}) {
    first.push_back(unseen);
    labels.push_back(1);
  }
  const EvaluationRow rate = one("detection_rate_5", two_class(first), labels, 2, 1);
  EXPECT_EQ(rate.hits, 3);
  EXPECT_DOUBLE_EQ(rate.value, 0.6);
}

TEST(ClassificationMetrics, WhatIsNotDefinedIsNaN) {
  const std::vector<float> logits = {1, 0, 0, 1};
  EXPECT_TRUE(std::isnan(one("auroc_unseen", logits, {0, 1}, 2).value));
  EXPECT_TRUE(std::isnan(one("auroc_unseen", logits, {0, 0}, 2, 1).value));
  EXPECT_TRUE(std::isnan(one("detection_rate_5", logits, {1, 1}, 2, 1).value));
  for (const MetricInfo& metric : metrics()) {
    if (metric.name == "bits_per_byte" || !metric.listed) continue;
    const EvaluationRow row = one(std::string(metric.name), {}, {}, 2, 1);
    EXPECT_TRUE(std::isnan(row.value)) << metric.name;
    EXPECT_EQ(row.total, 0) << metric.name;
  }
}

TEST(ClassificationMetrics, LogitsThatAreNotFiniteSpoilProbabilitiesOnly) {
  for (const float bad : {kNaN, kInfinity, -kInfinity}) {
    const std::vector<float> logits = {0, 2, bad, 3, 0, 1};
    for (const char* metric : {"nll", "brier", "ece", "auroc_unseen", "detection_rate_5"})
      EXPECT_TRUE(std::isnan(one(metric, logits, {1, 0}, 3, 1).value)) << metric;
  }
  const EvaluationRow row = one("accuracy", {kNaN, 2, 1, kNaN, kNaN, kNaN, 1, kNaN, 5}, {1, 0, 2}, 3);
  EXPECT_EQ(row.hits, 2);
  EXPECT_EQ(row.total, 3);
  EXPECT_DOUBLE_EQ(one("balanced_accuracy", {kNaN, kNaN, 1, 0}, {0, 0}, 2).value, 0.5);
}

TEST(ClassificationMetrics, RefusesWhatIsNoClassification) {
  const auto kind = [](const std::vector<float>& logits, const std::vector<std::int64_t>& labels, int classes) {
    try {
      one("accuracy", logits, labels, classes);
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::storage;
  };
  EXPECT_EQ(kind({1, 0}, {2}, 2), ErrorKind::data);
  EXPECT_EQ(kind({1, 0}, {-1}, 2), ErrorKind::data);
  EXPECT_EQ(kind({1, 0, 3}, {0}, 2), ErrorKind::internal);
  EXPECT_EQ(kind({}, {}, 0), ErrorKind::internal);
}

}  // namespace
}  // namespace tenfold

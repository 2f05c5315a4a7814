#include "db/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <vector>

namespace tenfold {
namespace {

// Closed forms of Student's distribution for 1, 2 and 4 degrees of freedom.
double cdf1(double t) { return 0.5 + std::atan(t) / std::numbers::pi; }
double cdf2(double t) { return 0.5 + t / (2 * std::sqrt(2 + t * t)); }
double cdf4(double t) {
  const double u = 1 + t * t / 4;
  return 0.5 + 3.0 / 8 * t / std::sqrt(u) * (1 - t * t / u / 12);
}

TEST(StatisticsTest, StudentCdfAgreesWithItsClosedForms) {
  for (double t = -8; t <= 8; t += 0.125) {
    EXPECT_NEAR(student_t_cdf(t, 1), cdf1(t), 1e-13) << t;
    EXPECT_NEAR(student_t_cdf(t, 2), cdf2(t), 1e-13) << t;
    EXPECT_NEAR(student_t_cdf(t, 4), cdf4(t), 1e-13) << t;
  }
}

TEST(StatisticsTest, StudentQuantilesAgreeWithThirtyDigitArithmetic) {
  // Made with mpmath at 30 digits, from its own incomplete beta function.
  EXPECT_NEAR(student_t_quantile(0.975, 2), 4.302652729749463852, 1e-12);
  EXPECT_NEAR(student_t_quantile(0.975, 4), 2.776445105197794358, 1e-12);
  EXPECT_NEAR(student_t_quantile(0.975, 9), 2.262157162798205543, 1e-12);
  EXPECT_NEAR(student_t_quantile(0.95, 24), 1.710882079909428442, 1e-12);
  EXPECT_NEAR(student_t_quantile(0.975, 1e6), 1.959964, 1e-5);  // the normal distribution
  EXPECT_NEAR(student_t_quantile(0.025, 9), -2.262157162798205543, 1e-12);
  EXPECT_NEAR(student_t_quantile(0.995, 49), 2.679951973631552042, 1e-12);
  EXPECT_NEAR(student_t_cdf(1.3, 7.5), 0.8839366105921956638, 1e-14);
  EXPECT_NEAR(student_t_cdf(-25, 9) / 6.29472518949518406727e-10, 1, 1e-11);  // a small tail, to relative precision
  for (const double p : {0.001, 0.2, 0.5, 0.77, 0.9999})
    EXPECT_NEAR(student_t_cdf(student_t_quantile(p, 7.5), 7.5), p, 1e-12);
}

TEST(StatisticsTest, CorrectedMeanOfAWorkedExample) {
  const std::vector<double> d = {0.01, 0.03, 0.02, 0.05, 0.04};  // mean 0.03, s^2 = 0.00025
  const CorrectedMean result = corrected_mean(d, 0.25);
  EXPECT_NEAR(result.mean, 0.03, 1e-15);
  EXPECT_NEAR(result.sd, std::sqrt(0.00025), 1e-15);
  const double scale = std::sqrt((0.2 + 0.25) * 0.00025);
  ASSERT_TRUE(result.t && result.p && result.interval);
  EXPECT_NEAR(*result.t, 0.03 / scale, 1e-12);
  EXPECT_NEAR(*result.p, 2 * (1 - cdf4(0.03 / scale)), 1e-12);
  EXPECT_NEAR(result.interval->low, 0.03 - 2.776445105197794358 * scale, 1e-13);
  EXPECT_NEAR(result.interval->high, 0.03 + 2.776445105197794358 * scale, 1e-13);
}

TEST(StatisticsTest, NoTestWithoutFoldsOrSpread) {
  EXPECT_EQ(corrected_mean(std::vector{0.1, 0.2}, 0.25).why_not, "fewer than 3 folds");
  EXPECT_EQ(corrected_mean(std::vector{0.1, 0.1, 0.1}, 0.25).why_not, "no spread over the folds");
  EXPECT_FALSE(corrected_mean(std::vector{0.1, 0.1, 0.1}, 0.25).interval);
  EXPECT_FALSE(corrected_mean(std::vector{0.1, 0.2, 0.3}, std::nan("")).interval);
  EXPECT_FALSE(correlated_t(std::vector{0.1, 0.1, 0.1}, 0.25, 0.01));
}

TEST(StatisticsTest, CorrelatedTOfAWorkedExample) {
  const std::vector<double> d = {0.01, 0.03, 0.02, 0.05, 0.04};
  const double scale = std::sqrt((0.2 + 0.25) * 0.00025);
  const auto result = correlated_t(d, 0.25, 0.01);
  ASSERT_TRUE(result);
  EXPECT_NEAR(result->worse, cdf4((-0.01 - 0.03) / scale), 1e-13);
  EXPECT_NEAR(result->better, 1 - cdf4((0.01 - 0.03) / scale), 1e-13);
  EXPECT_NEAR(result->worse + result->equivalent + result->better, 1, 1e-13);
}

TEST(StatisticsTest, HolmStepsDown) {
  const std::vector<double> adjusted = holm(std::vector{0.01, 0.04, 0.03, 0.005});
  EXPECT_DOUBLE_EQ(adjusted[3], 0.02);  // 4 x 0.005
  EXPECT_DOUBLE_EQ(adjusted[0], 0.03);  // 3 x 0.01
  EXPECT_DOUBLE_EQ(adjusted[2], 0.06);  // 2 x 0.03
  EXPECT_DOUBLE_EQ(adjusted[1], 0.06);  // never below an earlier one
  EXPECT_DOUBLE_EQ(holm(std::vector{0.9, 0.8})[0], 1.0);
}

TEST(StatisticsTest, SlopeOfALineAndItsError) {
  const std::vector<double> x = {0, 1, 2, 3}, y = {1, 3, 2, 4};  // slope 0.8, residuals -0.3 0.9 -0.9 0.3
  const auto slope = least_squares_slope(x, y);
  ASSERT_TRUE(slope);
  EXPECT_NEAR(slope->value, 0.8, 1e-14);
  EXPECT_NEAR(slope->standard_error, std::sqrt((0.09 + 0.81 + 0.81 + 0.09) / 2 / 5), 1e-14);
  EXPECT_FALSE(least_squares_slope(std::vector{1.0, 1.0, 1.0}, std::vector{1.0, 2.0, 3.0}));
}

}  // namespace
}  // namespace tenfold

#include "db/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace tenfold {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// The continued fraction of DLMF 8.17.22 by Lentz's method; converges fast for x < (a + 1)/(a + b + 2).
double beta_fraction(double x, double a, double b) {
  constexpr double kTiny = 1e-300;
  constexpr int kMostTerms = 10'000;
  double c = 1;
  double d = 1 / std::max(std::abs(1 - (a + b) * x / (a + 1)), kTiny) * (1 - (a + b) * x / (a + 1) < 0 ? -1 : 1);
  double value = d;
  for (int m = 1; m <= kMostTerms; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    double factor = 1;
    for (const double term : {even, odd}) {
      d = 1 + term * d;
      c = 1 + term / c;
      if (std::abs(d) < kTiny) d = kTiny;
      if (std::abs(c) < kTiny) c = kTiny;
      d = 1 / d;
      factor = c * d;
      value *= factor;
    }
    if (std::abs(factor - 1) < 1e-16) break;
  }
  return value;
}

// I_x(a, b); `y` is 1 - x, given because it may be known more exactly.
double incomplete_beta(double x, double y, double a, double b) {
  if (x <= 0) return 0;
  if (y <= 0) return 1;
  const double front =
      std::exp(a * std::log(x) + b * std::log(y) + std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b));
  if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(x, a, b) / a;
  return 1 - front * beta_fraction(y, b, a) / b;
}

// P(T > t) for t >= 0.
double upper_tail(double t, double dof) {
  const double squared = t * t;
  if (std::isinf(squared)) return 0;
  return 0.5 * incomplete_beta(dof / (dof + squared), squared / (dof + squared), dof / 2, 0.5);
}

// Rounding alone gives equal values a spread of an ulp or two.
bool has_spread(double sd, double centre) { return sd > 1e-12 * std::abs(centre); }

}  // namespace

double mean(std::span<const double> values) {
  if (values.empty()) return kNan;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double sample_sd(std::span<const double> values) {
  if (values.size() < 2) return kNan;
  const double centre = mean(values);
  double squares = 0;
  for (const double value : values) squares += (value - centre) * (value - centre);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

double student_t_cdf(double t, double dof) {
  if (std::isnan(t)) return kNan;
  return t < 0 ? upper_tail(-t, dof) : 1 - upper_tail(t, dof);
}

double student_t_quantile(double p, double dof) {
  if (!(p > 0 && p < 1)) return kNan;
  if (p == 0.5) return 0;
  const double tail = std::min(p, 1 - p);
  double low = 0, high = 1;
  while (upper_tail(high, dof) > tail && high < 1e300) high *= 2;
  // Bisection to neighbouring doubles: slow and safe, and called a few times a report.
  for (int i = 0; i < 200 && low < high; ++i) {
    const double middle = low + (high - low) / 2;
    if (middle == low || middle == high) break;
    (upper_tail(middle, dof) > tail ? low : high) = middle;
  }
  const double t = low + (high - low) / 2;
  return p < 0.5 ? -t : t;
}

CorrectedMean corrected_mean(std::span<const double> values, double q, double confidence) {
  CorrectedMean result;
  result.n = values.size();
  result.mean = mean(values);
  result.sd = sample_sd(values);
  if (values.size() < 3) {
    result.why_not = "fewer than 3 folds";
    return result;
  }
  if (!has_spread(result.sd, result.mean)) {
    result.why_not = std::isnan(result.sd) ? "a value is missing" : "no spread over the folds";
    return result;
  }
  if (!(q > 0)) {
    result.why_not = "the sizes of the folds are unknown";
    return result;
  }
  const double j = static_cast<double>(values.size());
  const double scale = std::sqrt(1 / j + q) * result.sd;
  const double half = student_t_quantile(0.5 + confidence / 2, j - 1) * scale;
  result.interval = Interval{result.mean - half, result.mean + half};
  result.t = result.mean / scale;
  result.p = 2 * upper_tail(std::abs(*result.t), j - 1);
  return result;
}

std::optional<CorrelatedT> correlated_t(std::span<const double> differences, double q, double rope) {
  const double sd = sample_sd(differences);
  const double centre = mean(differences);
  if (differences.size() < 3 || !has_spread(sd, centre) || !(q > 0)) return std::nullopt;
  const double j = static_cast<double>(differences.size());
  const double scale = std::sqrt(1 / j + q) * sd;
  CorrelatedT result;
  result.worse = student_t_cdf((-rope - centre) / scale, j - 1);
  result.better = student_t_cdf((centre - rope) / scale, j - 1);  // by symmetry, without 1 - small
  result.equivalent = std::max(0.0, 1 - result.worse - result.better);
  return result;
}

std::vector<double> holm(std::span<const double> p_values) {
  std::vector<std::size_t> order(p_values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return p_values[a] < p_values[b]; });
  std::vector<double> adjusted(p_values.size());
  double largest = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    largest = std::max(largest, std::min(1.0, static_cast<double>(order.size() - i) * p_values[order[i]]));
    adjusted[order[i]] = largest;
  }
  return adjusted;
}

std::optional<Slope> least_squares_slope(std::span<const double> x, std::span<const double> y) {
  if (x.size() != y.size() || x.size() < 3) return std::nullopt;
  const double x_mean = mean(x), y_mean = mean(y);
  double xx = 0, xy = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - x_mean) * (x[i] - x_mean);
    xy += (x[i] - x_mean) * (y[i] - y_mean);
  }
  if (!(xx > 0)) return std::nullopt;
  const double slope = xy / xx;
  double residual = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double error = y[i] - y_mean - slope * (x[i] - x_mean);
    residual += error * error;
  }
  return Slope{slope, std::sqrt(residual / static_cast<double>(x.size() - 2) / xx)};
}

}  // namespace tenfold

#include "db/inner_loop_statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "db/statistics.h"

namespace tenfold {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr std::size_t kBlocks = 10;
// Sums of a few thousand doubles agree to this.
constexpr double kRounding = 1e-9;

std::vector<double> finite(std::span<const double> values) {
  std::vector<double> kept;
  for (const double value : values)
    if (std::isfinite(value)) kept.push_back(value);
  return kept;
}

CurveSummary summary_of(std::span<const double> values) {
  const std::vector<double> kept = finite(values);
  if (kept.empty()) return {kNan, kNan, kNan, kNan};
  const auto [smallest, largest] = std::minmax_element(kept.begin(), kept.end());
  return {mean(kept), sample_sd(kept), *smallest, *largest};
}

std::vector<double> difference(std::span<const double> a, std::span<const double> b) {
  std::vector<double> result(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) result[i] = a[i] - b[i];
  return result;
}

Trend trend_of(std::span<const double> x, std::span<const double> values) {
  std::vector<double> kept_x, kept;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) continue;
    kept_x.push_back(x[i]);
    kept.push_back(values[i]);
  }
  Trend trend;
  trend.slope = block_slope(kept_x, kept);
  const std::size_t tenth = std::max<std::size_t>(1, kept.size() / 10);
  const std::span<const double> all = kept;
  trend.change = kept.empty() ? kNan : mean(all.last(tenth)) - mean(all.first(tenth));
  return trend;
}

double relative_benefit(double l0, double lafter) { return l0 != 0 ? 1 - lafter / l0 : kNan; }

// The mean of those at positions from `first` on.
double mean_from(const InnerLossCurves& curves, std::span<const double> values, std::int64_t first) {
  std::vector<double> kept;
  for (std::size_t i = 0; i < values.size(); ++i)
    if (curves.position[i] >= first && std::isfinite(values[i])) kept.push_back(values[i]);
  return mean(kept);
}

}  // namespace

bool BlockSlope::rises() const {
  return value > 2 * standard_error && value * span > kRounding * std::max(scale, std::numeric_limits<double>::min());
}

bool BlockSlope::falls() const {
  return value < -2 * standard_error && -value * span > kRounding * std::max(scale, std::numeric_limits<double>::min());
}

BlockSlope block_slope(std::span<const double> x, std::span<const double> y) {
  BlockSlope result;
  result.value = result.standard_error = kNan;
  if (y.size() < kFewestPositionsOfASlope) {
    result.why_not = std::to_string(y.size()) + " positions; a slope needs " + std::to_string(kFewestPositionsOfASlope);
    return result;
  }
  const auto all = least_squares_slope(x, y);
  const std::size_t blocks = std::min(kBlocks, y.size() / 3);
  std::vector<double> block_x, block_y;
  for (std::size_t b = 0; b < blocks; ++b) {
    const std::size_t begin = b * y.size() / blocks, end = (b + 1) * y.size() / blocks;
    block_x.push_back(mean(x.subspan(begin, end - begin)));
    block_y.push_back(mean(y.subspan(begin, end - begin)));
  }
  const auto averaged = least_squares_slope(block_x, block_y);
  if (!all || !averaged) {
    result.why_not = "all values are at one position";
    return result;
  }
  result.value = all->value;
  result.standard_error = averaged->standard_error;
  result.blocks = static_cast<std::int64_t>(blocks);
  const auto [first, last] = std::minmax_element(x.begin(), x.end());
  result.span = *last - *first;
  for (const double value : y) result.scale = std::max(result.scale, std::abs(value));
  return result;
}

double InnerLoopStatistics::violation_share() const {
  const std::int64_t judged = positions - not_finite;
  return judged > 0 ? static_cast<double>(violations) / static_cast<double>(judged) : kNan;
}

InnerLoopStatistics inner_loop_statistics(const InnerLossCurves& curves, std::int64_t mini_batch_size) {
  InnerLoopStatistics s;
  s.positions = static_cast<std::int64_t>(curves.size());
  s.step_improvement = s.cumulative_benefit = s.context_benefit = kNan;
  s.first_relative_benefit = s.last_relative_benefit = kNan;
  if (curves.size() == 0) return s;
  s.first_position = curves.position.front();
  s.last_position = curves.position.back();
  s.l0 = summary_of(curves.l0);
  s.lprev = summary_of(curves.lprev);
  s.lafter = summary_of(curves.lafter);
  std::int64_t later = 0, unmoved = 0;
  for (std::size_t i = 0; i < curves.size(); ++i) {
    const double l0 = curves.l0[i], lprev = curves.lprev[i], lafter = curves.lafter[i];
    if (!std::isfinite(l0) || !std::isfinite(lprev) || !std::isfinite(lafter)) {
      ++s.not_finite;
      continue;
    }
    const double tolerance = kOrderTolerance * std::abs(l0);
    const bool after = lafter > lprev + tolerance, prev = lprev > l0 + tolerance;
    s.after_above_prev += after ? 1 : 0;
    s.prev_above_l0 += prev ? 1 : 0;
    s.violations += after || prev ? 1 : 0;
    if (curves.position[i] < mini_batch_size) continue;
    ++later;
    unmoved += std::abs(lprev - l0) <= kRounding * std::abs(l0) ? 1 : 0;
  }
  s.previous_is_initial = later > 0 && unmoved == later;
  s.step_improvement = mean(finite(difference(curves.lprev, curves.lafter)));
  s.cumulative_benefit = mean(finite(difference(curves.l0, curves.lafter)));
  s.context_benefit = mean_from(curves, difference(curves.l0, curves.lprev), mini_batch_size);
  s.first_relative_benefit = relative_benefit(curves.l0.front(), curves.lafter.front());
  s.last_relative_benefit = relative_benefit(curves.l0.back(), curves.lafter.back());
  const std::vector<double> x(curves.position.begin(), curves.position.end());
  s.l0_trend = trend_of(x, curves.l0);
  s.lprev_trend = trend_of(x, curves.lprev);
  s.context_trend = trend_of(x, difference(curves.lprev, curves.l0));
  return s;
}

std::vector<double> moving_average(std::span<const double> values, std::size_t window) {
  std::vector<double> result;
  result.reserve(values.size());
  const std::size_t before = window / 2;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t begin = i < before ? 0 : i - before;
    const std::size_t end = std::min(values.size(), i + window - before);
    result.push_back(mean(finite(values.subspan(begin, end - begin))));
  }
  return result;
}

InnerLossCurves mean_curves(std::span<const InnerLossCurves> curves) {
  struct Sums {
    double l0 = 0, lprev = 0, lafter = 0;
    double n = 0;
  };
  std::map<std::int64_t, Sums> at;
  for (const InnerLossCurves& one : curves)
    for (std::size_t i = 0; i < one.size(); ++i) {
      Sums& sums = at[one.position[i]];
      sums.l0 += one.l0[i];
      sums.lprev += one.lprev[i];
      sums.lafter += one.lafter[i];
      sums.n += 1;
    }
  InnerLossCurves result;
  for (const auto& [position, sums] : at) {
    result.position.push_back(position);
    result.l0.push_back(sums.l0 / sums.n);
    result.lprev.push_back(sums.lprev / sums.n);
    result.lafter.push_back(sums.lafter / sums.n);
  }
  return result;
}

}  // namespace tenfold

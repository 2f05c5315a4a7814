#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

// What may be said of the loss curves of one TTT layer: l0, lprev and lafter by token position (Sun et al. 2024, figure
// 5). The diagnosis in inner_loop_diagnosis.h reads these numbers.
namespace tenfold {

// Means over streams, heads and features; one entry per recorded position, ascending. NaN: could not be computed.
struct InnerLossCurves {
  std::vector<std::int64_t> position;
  std::vector<double> l0, lprev, lafter;
  std::size_t size() const { return position.size(); }
};

// Of the finite values.
struct CurveSummary {
  double mean = 0, sd = 0, smallest = 0, largest = 0;
};

// A least-squares slope whose error does not take neighbours for independent: the positions are cut into blocks, and
// the error is that of a line through the blocks' averages.
struct BlockSlope {
  double value = 0;           // per position, of all points; NaN: see why_not
  double standard_error = 0;  // NaN: see why_not
  std::int64_t blocks = 0;
  std::string why_not;
  bool rises() const;  // beyond two standard errors, and beyond rounding
  bool falls() const;
  double span = 0;   // of x
  double scale = 0;  // largest |y|
};
inline constexpr std::size_t kFewestPositionsOfASlope = 9;
BlockSlope block_slope(std::span<const double> x, std::span<const double> y);

struct Trend {
  double change = 0;  // mean of the last tenth of the positions minus mean of the first tenth
  BlockSlope slope;
};

struct InnerLoopStatistics {
  std::int64_t positions = 0;  // recorded
  std::int64_t first_position = 0, last_position = 0;
  std::int64_t not_finite = 0;  // positions where any of the three losses is NaN or infinite
  CurveSummary l0, lprev, lafter;
  // Positions where not l0 >= lprev >= lafter, beyond rounding (kOrderTolerance of l0); and which half is broken.
  std::int64_t violations = 0, after_above_prev = 0, prev_above_l0 = 0;
  double violation_share() const;
  double step_improvement = 0;    // mean(lprev - lafter)
  double cumulative_benefit = 0;  // mean(l0 - lafter)
  double context_benefit = 0;     // mean(l0 - lprev), from the second mini-batch on; NaN: none
  double first_relative_benefit = 0, last_relative_benefit = 0;  // 1 - lafter/l0 at the first and the last position
  bool previous_is_initial = false;  // lprev is l0 at every position after the first mini-batch, and there are some
  Trend l0_trend, lprev_trend, context_trend;  // the last of lprev - l0
};
inline constexpr double kOrderTolerance = 1e-6;

// mini_batch_size: tokens of one inner step; in the first mini-batch lprev is l0 by construction.
InnerLoopStatistics inner_loop_statistics(const InnerLossCurves& curves, std::int64_t mini_batch_size);

// Of `window` values around each, fewer at the ends: as figure 5 is drawn.
std::vector<double> moving_average(std::span<const double> values, std::size_t window = 10);

// Position by position, over those curves that have the position.
InnerLossCurves mean_curves(std::span<const InnerLossCurves> curves);

}  // namespace tenfold

#include "db/ttt_loss_data.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <set>

#include "db/statistics.h"

namespace tenfold {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

void keep_lowest(double& so_far, double value) {
  if (!std::isnan(value) && !(so_far <= value)) so_far = value;
}

void keep_highest(double& so_far, double value) {
  if (!std::isnan(value) && !(so_far >= value)) so_far = value;
}

double mean_or_nan(const std::vector<double>& values) { return values.empty() ? kNan : mean(values); }

}  // namespace

Curves load_curves(Connection& connection, const ExperimentInfo& experiment, const ConfigurationInfo& configuration) {
  Curves curves{configuration, experiment.name, {}, 0, kNan};
  Statement select(connection,
                   "SELECT step, total, entropy, diversity, diversity_weight, class_entropy, classes_predicted, "
                   "max_class_share, grad_norm FROM ttt_step WHERE trial = ?1 ORDER BY step");
  std::vector<TrialInfo> used;
  for (const TrialInfo& trial : trials_of(connection, configuration.id)) {
    FoldCurve fold{trial, {}, {}, {}};
    if (trial.status == "done") {
      select.bind(1, trial.id);
      while (select.next())
        fold.points.push_back({select.integer(0), select.real(1), select.real(2), select.real(3), select.real(4),
                               select.real(5), select.real(6), select.real(7), select.real(8)});
    }
    if (fold.points.empty()) {
      ++curves.left_out;
      continue;
    }
    fold.before = final_values(connection, trial.id, "before");
    fold.after = final_values(connection, trial.id, "after");
    used.push_back(trial);
    curves.folds.push_back(std::move(fold));
  }
  curves.q = test_share(used);
  return curves;
}

double value_of(const LossPoint& point, Quantity quantity) {
  switch (quantity) {
    case Quantity::total:
      return point.total;
    case Quantity::entropy:
      return point.entropy;
    case Quantity::diversity:
      return point.diversity;
    case Quantity::corrected_diversity:
      return point.corrected_diversity();
  }
  return kNan;
}

const char* to_string(Quantity quantity) {
  switch (quantity) {
    case Quantity::total:
      return "total";
    case Quantity::entropy:
      return "entropy";
    case Quantity::diversity:
      return "diversity";
    case Quantity::corrected_diversity:
      return "diversity, batch-corrected";
  }
  return "?";
}

Reduction reduction(const Curves& curves, Quantity quantity) {
  std::vector<double> first, last, steps;
  for (const FoldCurve& fold : curves.folds) {
    first.push_back(value_of(fold.points.front(), quantity));
    last.push_back(value_of(fold.points.back(), quantity));
    steps.push_back(static_cast<double>(fold.points.back().step - fold.points.front().step));
  }
  Reduction result;
  result.first = mean_or_nan(first);
  result.last = mean_or_nan(last);
  const double length = mean_or_nan(steps);
  result.percent = result.first != 0 ? 100 * (result.first - result.last) / result.first : kNan;
  result.per_step = length > 0 ? (result.last - result.first) / length : kNan;
  return result;
}

std::vector<MeanPoint> mean_curve(const Curves& curves) {
  std::map<std::int64_t, MeanPoint> steps;
  for (const FoldCurve& fold : curves.folds)
    for (const LossPoint& point : fold.points) {
      MeanPoint& sum = steps[point.step];
      sum.step = point.step;
      ++sum.folds;
      sum.total += point.total;
      sum.entropy += point.entropy;
      sum.diversity += point.diversity;
      sum.corrected_diversity += point.corrected_diversity();
    }
  std::vector<MeanPoint> curve;
  for (auto& [step, point] : steps) {
    const double n = static_cast<double>(point.folds);
    curve.push_back(
        {step, point.folds, point.total / n, point.entropy / n, point.diversity / n, point.corrected_diversity / n});
  }
  return curve;
}

double batch_bias_bound(const Curves& curves) {
  if (curves.folds.empty() || !curves.configuration.batch_size || *curves.configuration.batch_size < 1) return kNan;
  const double classes = static_cast<double>(curves.folds[0].trial.classes);
  if (classes < 2) return kNan;
  return (classes - 1) / (2.0 * *curves.configuration.batch_size * std::log(classes));
}

Convergence convergence(const Curves& curves) {
  Convergence result;
  result.lowest_class_entropy = result.fewest_classes = result.largest_class_share = kNan;
  result.largest_grad_norm = result.tail_slope = result.tail_slope_error = kNan;
  double falls = 0, opposed = 0, moves = 0;
  std::set<double> weights;
  std::vector<double> noise, last_entropy, shares, grad_norms;
  for (const FoldCurve& fold : curves.folds) {
    std::vector<double> differences;
    double lowest = kNan;
    for (std::size_t i = 0; i < fold.points.size(); ++i) {
      const LossPoint& point = fold.points[i];
      keep_lowest(lowest, point.class_entropy);
      keep_lowest(result.fewest_classes, point.classes_predicted);
      keep_highest(result.largest_class_share, point.max_class_share);
      if (!std::isnan(point.grad_norm)) grad_norms.push_back(point.grad_norm);
      keep_highest(result.largest_grad_norm, point.grad_norm);
      if (i == 0) continue;
      const LossPoint& previous = fold.points[i - 1];
      const double difference = point.total - previous.total;
      if (std::isnan(difference)) continue;
      differences.push_back(difference);
      moves += 1;
      falls += difference < 0 ? 1 : 0;
      opposed += (point.entropy - previous.entropy) * (point.diversity - previous.diversity) < 0 ? 1 : 0;
    }
    keep_lowest(result.lowest_class_entropy, lowest);
    result.collapsed_folds += lowest < kCollapseBelow ? 1 : 0;
    if (differences.size() > 1) noise.push_back(sample_sd(differences));
    const LossPoint& last = fold.points.back();
    if (!std::isnan(last.class_entropy)) last_entropy.push_back(last.class_entropy);
    for (const LossPoint& point : fold.points)
      if (!std::isnan(point.diversity_weight)) weights.insert(point.diversity_weight);
    const double share = last.diversity_weight * last.diversity / last.total;
    if (std::isfinite(share)) shares.push_back(share);
  }
  result.monotone_share = moves > 0 ? falls / moves : kNan;
  result.opposed_share = moves > 0 ? opposed / moves : kNan;
  result.noise = mean_or_nan(noise);
  result.last_class_entropy = mean_or_nan(last_entropy);
  result.diversity_weight = weights.size() == 1 ? *weights.begin() : kNan;
  result.diversity_share = mean_or_nan(shares);
  result.mean_grad_norm = mean_or_nan(grad_norms);
  // Only steps of every fold: where a fold ends, the average jumps without any loss having moved.
  std::vector<MeanPoint> curve = mean_curve(curves);
  std::erase_if(curve, [&](const MeanPoint& point) { return point.folds < std::ssize(curves.folds); });
  const std::size_t fifth = (curve.size() + 4) / 5;
  std::vector<double> x, y;
  for (std::size_t i = curve.size() - fifth; i < curve.size(); ++i) {
    x.push_back(static_cast<double>(curve[i].step));
    y.push_back(curve[i].total);
  }
  if (const auto slope = least_squares_slope(x, y)) {
    result.tail_slope = slope->value;
    result.tail_slope_error = slope->standard_error;
  }
  return result;
}

}  // namespace tenfold

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "db/selection.h"

// The numbers of the loss report, computed from the store; report_ttt_loss.cpp puts them into words and tables.
namespace tenfold {

struct LossPoint {
  std::int64_t step = 0;
  double total = 0, entropy = 0, diversity = 0;
  double diversity_weight = 0, class_entropy = 0, classes_predicted = 0, max_class_share = 0,
         grad_norm = 0;  // NaN: none
  // Diversity without the bias of a finite batch: 1 - h of the whole pass. NaN where h was not recorded.
  double corrected_diversity() const { return 1 - class_entropy; }
};

struct FoldCurve {
  TrialInfo trial;
  std::vector<LossPoint> points;  // by step; never empty
  std::map<std::string, double> before, after;
};

struct Curves {
  ConfigurationInfo configuration;
  std::string experiment;
  std::vector<FoldCurve> folds;  // done trials with rows
  std::int64_t left_out = 0;     // trials that are not done, or without rows
  double q = 0;                  // n_test/n_train
};
Curves load_curves(Connection& connection, const ExperimentInfo& experiment, const ConfigurationInfo& configuration);

// One of the recorded quantities.
enum class Quantity { total, entropy, diversity, corrected_diversity };
double value_of(const LossPoint& point, Quantity quantity);
const char* to_string(Quantity quantity);

// First and last value of a curve, averaged over folds before any ratio is taken.
struct Reduction {
  double first = 0, last = 0;
  double percent = 0;   // (first - last)/first; NaN when first is 0
  double per_step = 0;  // (last - first)/(last step - first step)
};
Reduction reduction(const Curves& curves, Quantity quantity);

// Averages over the folds that have the step.
struct MeanPoint {
  std::int64_t step = 0;
  std::int64_t folds = 0;
  double total = 0, entropy = 0, diversity = 0, corrected_diversity = 0;
};
std::vector<MeanPoint> mean_curve(const Curves& curves);

// Upper bound of what a batch of B adds to the diversity of C classes: (C - 1)/(2 B log C), reached by balanced one-hot
// predictions. NaN when B or C is unknown.
double batch_bias_bound(const Curves& curves);

struct Convergence {
  double monotone_share = 0;                    // of the steps of all folds: the total fell
  double noise = 0;                             // sd of the total's step differences, mean over folds
  double tail_slope = 0, tail_slope_error = 0;  // per step, of the mean total over the last fifth of
                                                // the steps that every fold has; NaN: too short
  double lowest_class_entropy = 0, last_class_entropy = 0;
  double fewest_classes = 0, largest_class_share = 0;
  double diversity_weight = 0;  // w; NaN: not one for all rows
  double diversity_share = 0;   // of w * diversity in the total, last step
  double mean_grad_norm = 0, largest_grad_norm = 0;
  double opposed_share = 0;          // of the steps: entropy and diversity moved in opposite directions
  std::int64_t collapsed_folds = 0;  // class entropy fell below 0.8
};
inline constexpr double kCollapseBelow = 0.8;
Convergence convergence(const Curves& curves);

}  // namespace tenfold

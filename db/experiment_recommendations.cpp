#include "db/experiment_recommendations.h"

#include <algorithm>
#include <cmath>

#include "db/statistics.h"
#include "db/text_table.h"

namespace tenfold {
namespace {

constexpr double kGapPoints = 5;
constexpr double kGapSd = 2;
constexpr double kStillFalling = 5;   // % of the loss over the last fifth
constexpr double kEarlyBest = 67;     // % of the training
constexpr double kWorseThanBest = 1;  // % of the validation loss
constexpr double kSpike = 10;         // times the mean gradient norm
constexpr double kNoisy = 0.5;        // coefficient of variation
constexpr double kOverChance = 2;     // standard errors

std::string number(double value) { return short_number(std::round(value * 1e4) / 1e4); }

double mean_of(const MeasuredConfiguration& measured, const char* name) {
  const Measure* measure = measured.find(name);
  return measure ? mean(measure->folds) : std::nan("");
}

const Measure* gap_of(const MeasuredConfiguration& measured) {
  for (const char* name :
       {"train-validation gap, final, accuracy points", "train-held-out gap, final, accuracy points"})
    if (const Measure* gap = measured.find(name)) return gap;
  return nullptr;
}

struct GapVerdict {
  bool points = false, spread = false;
  std::string text;
};

GapVerdict judge_gap(const Measure& gap) {
  const double value = mean(gap.folds), sd = sample_sd(gap.folds);
  GapVerdict verdict;
  verdict.points = value > kGapPoints;
  // A gap that all folds show alike has no spread worth comparing with below half a point.
  verdict.spread = gap.folds.size() >= 3 && value > kGapSd * sd && value > 0.1 * kGapPoints;
  verdict.text = gap.name + ": mean " + number(value) + " (threshold " + number(kGapPoints) + " points)";
  if (!std::isnan(sd)) verdict.text += ", sd over folds " + number(sd) + " (threshold " + number(kGapSd) + " sd)";
  return verdict;
}

std::string setting(const MeasuredConfiguration& measured, const char* section, const std::string& key) {
  for (const auto& [name, value] : settings_of(measured.specification, section))
    if (name == key) return value;
  return "";
}

}  // namespace

std::string overfitting_status(const MeasuredConfiguration& measured) {
  const Measure* gap = gap_of(measured);
  if (!gap) return "unknown: no accuracy on the training part beside one on other samples";
  const GapVerdict verdict = judge_gap(*gap);
  return (verdict.points   ? "overfitting; "
          : verdict.spread ? "a gap beyond the spread of the folds; "
                           : "none seen; ") +
         verdict.text;
}

std::vector<ReportFinding> recommendations(const MeasuredConfiguration& measured) {
  std::vector<ReportFinding> found;
  if (const Measure* gap = gap_of(measured)) {
    const GapVerdict verdict = judge_gap(*gap);
    if (verdict.points || verdict.spread)
      found.push_back(
          {"Overfitting: " + verdict.text + ".", "Regularise more, or train on more data.",
           "model: {dropout: 0.3}\ntrain: {optimizer: {weight_decay: 0.05}, early_stopping: {patience: 5}}\n"
           "folds: {validation: 0.1}"});
  }
  const double falling = mean_of(measured, "train loss, fall over the last fifth %");
  if (falling > kStillFalling) {
    const std::string epochs = setting(measured, "train", "epochs");
    const long now = std::max(1L, std::strtol(epochs.c_str(), nullptr, 10));
    found.push_back({"Still learning: the train loss fell by " + number(falling) +
                         " % over the last fifth of the epochs (threshold " + number(kStillFalling) + " %).",
                     "Train longer.", "train: {epochs: " + std::to_string(2 * now) + "}"});
  }
  const double best_at = mean_of(measured, "best validation loss at % of the training");
  const double final_loss = mean_of(measured, "validation, final: nll");
  const double best_loss = mean_of(measured, "validation, best: nll");
  const double worse = best_loss > 0 ? 100 * (final_loss - best_loss) / best_loss : std::nan("");
  if (best_at <= kEarlyBest && worse > kWorseThanBest)
    found.push_back({"Trained beyond its best: the validation loss was lowest at " + number(best_at) +
                         " % of the training (threshold " + number(kEarlyBest) + " %) and ended " + number(worse) +
                         " % higher (threshold " + number(kWorseThanBest) + " %).",
                     "Stop early.", "train: {early_stopping: {patience: 5}}"});
  const double norm = mean_of(measured, "gradient norm, mean"), spike = mean_of(measured, "gradient norm, largest");
  const std::string clip = setting(measured, "train", "clip_norm");
  if (spike > kSpike * norm && (clip == "none" || clip.empty()))
    found.push_back({"Gradient spikes: the largest norm is " + number(spike / norm) + " times the mean of " +
                         number(norm) + " (threshold " + number(kSpike) + " times), and nothing clips it.",
                     "Clip the gradient.", "train: {clip_norm: " + number(std::max(0.1, norm)) + "}"});
  const double variation = mean_of(measured, "batch-loss coefficient of variation");
  if (variation > kNoisy) {
    const long batch = std::max(1L, std::strtol(setting(measured, "train", "batch_size").c_str(), nullptr, 10));
    found.push_back({"Noisy batches: the coefficient of variation of the batch loss within an epoch is " +
                         number(variation) + " (threshold " + number(kNoisy) + ").",
                     "Use larger batches or a lower rate.", "train: {batch_size: " + std::to_string(2 * batch) + "}"});
  }
  const double accuracy = mean_of(measured, "held-out, trained: accuracy %");
  const double held_out = measured.data.test_n.empty() ? 0 : mean(measured.data.test_n);
  if (measured.data.classes > 1 && held_out > 0 && measured.data.label_kind != "next_token") {
    const double chance = 100.0 / static_cast<double>(measured.data.classes);
    const double error = std::sqrt(chance * (100 - chance) / (held_out * static_cast<double>(measured.folds)));
    if (accuracy < chance + kOverChance * error)
      found.push_back({"At chance: the held-out accuracy is " + number(accuracy) + " %, and " + number(chance) +
                           " % is chance among " + std::to_string(measured.data.classes) + " classes (threshold " +
                           number(chance + kOverChance * error) + " %, two standard errors above).",
                       "Check the labels and the learning rate before anything else.",
                       "sweep: {train.optimizer.lr: [1e-4, 1e-3, 1e-2]}"});
  }
  return found;
}

}  // namespace tenfold

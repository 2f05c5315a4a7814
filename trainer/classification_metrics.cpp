#include "trainer/classification_metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "experiments/error.h"
#include "experiments/metric.h"
#include "trainer/calibration.h"

namespace tenfold {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr std::int64_t kFalseAlarmsPerSamples = 20;  // one in 20: 5 %

struct Value {
  double value = kNaN;
  std::int64_t hits = -1;
  std::int64_t total = 0;
};

void check(const Predictions& p) {
  if (p.classes < 1 || p.logits.size() != p.labels.size() * static_cast<std::size_t>(p.classes))
    throw Error(ErrorKind::internal, "metrics of " + std::to_string(p.logits.size()) + " logits for " +
                                         std::to_string(p.labels.size()) + " samples and " + std::to_string(p.classes) +
                                         " classes");
  for (std::size_t i = 0; i < p.labels.size(); ++i)
    if (p.labels[i] < 0 || p.labels[i] >= p.classes)
      throw Error(ErrorKind::data, "the label " + std::to_string(p.labels[i]) + " of sample " + std::to_string(i) +
                                       " is not one of the " + std::to_string(p.classes) + " classes 0 to " +
                                       std::to_string(p.classes - 1));
}

// What all metrics are made of, in one pass over the logits.
struct Summary {
  std::vector<std::int64_t> predicted;  // -1: all logits of the sample are NaN
  std::vector<double> confidence;       // max p; empty unless probabilities were asked for
  double nll = 0, brier = 0;            // sums over the samples
  bool finite = true;                   // every logit is
};

std::int64_t likeliest(std::span<const float> logits) {
  std::int64_t best = -1;
  float largest = 0;
  for (std::size_t c = 0; c < logits.size(); ++c)
    if (!std::isnan(logits[c]) && (best < 0 || logits[c] > largest)) {
      best = static_cast<std::int64_t>(c);
      largest = logits[c];
    }
  return best;
}

Summary summarise(const Predictions& p, bool probabilities) {
  Summary summary;
  const std::size_t n = p.labels.size(), classes = static_cast<std::size_t>(p.classes);
  summary.predicted.resize(n);
  summary.finite = std::ranges::all_of(p.logits, [](float logit) { return std::isfinite(logit); });
  for (std::size_t i = 0; i < n; ++i) summary.predicted[i] = likeliest(p.logits.subspan(i * classes, classes));
  if (!probabilities || !summary.finite) return summary;

  summary.confidence.resize(n);
  std::vector<double> exponentials(classes);
  for (std::size_t i = 0; i < n; ++i) {
    const auto logits = p.logits.subspan(i * classes, classes);
    const auto label = static_cast<std::size_t>(p.labels[i]);
    const double largest = logits[static_cast<std::size_t>(summary.predicted[i])];
    double sum = 0;
    for (std::size_t c = 0; c < classes; ++c) sum += exponentials[c] = std::exp(logits[c] - largest);
    double squares = 0;
    for (std::size_t c = 0; c < classes; ++c) {
      const double distance = exponentials[c] / sum - (c == label ? 1.0 : 0.0);
      squares += distance * distance;
    }
    summary.confidence[i] = 1.0 / sum;  // the exponential of the likeliest class is 1
    summary.nll += std::log(sum) - (logits[label] - largest);
    summary.brier += squares;
  }
  return summary;
}

Value accuracy(const Predictions& p, const Summary& s) {
  Value result{kNaN, 0, static_cast<std::int64_t>(p.labels.size())};
  for (std::size_t i = 0; i < p.labels.size(); ++i) result.hits += s.predicted[i] == p.labels[i];
  if (result.total > 0) result.value = static_cast<double>(result.hits) / static_cast<double>(result.total);
  return result;
}

struct ClassCounts {
  std::int64_t labelled = 0, predicted = 0, hits = 0;
};

std::vector<ClassCounts> count_classes(const Predictions& p, const Summary& s) {
  std::vector<ClassCounts> counts(static_cast<std::size_t>(p.classes));
  for (std::size_t i = 0; i < p.labels.size(); ++i) {
    ++counts[p.labels[i]].labelled;
    if (s.predicted[i] < 0) continue;
    ++counts[s.predicted[i]].predicted;
    counts[p.labels[i]].hits += s.predicted[i] == p.labels[i];
  }
  return counts;
}

Value balanced_accuracy(const Predictions& p, const Summary& s) {
  double sum = 0;
  int present = 0;
  for (const ClassCounts& c : count_classes(p, s)) {
    if (c.labelled == 0) continue;
    ++present;
    sum += static_cast<double>(c.hits) / static_cast<double>(c.labelled);
  }
  return {present > 0 ? sum / present : kNaN, -1, static_cast<std::int64_t>(p.labels.size())};
}

Value macro_f1(const Predictions& p, const Summary& s) {
  double sum = 0;
  int present = 0;
  for (const ClassCounts& c : count_classes(p, s)) {
    if (c.labelled + c.predicted == 0) continue;
    ++present;
    sum += 2.0 * static_cast<double>(c.hits) / static_cast<double>(c.labelled + c.predicted);
  }
  return {present > 0 ? sum / present : kNaN, -1, static_cast<std::int64_t>(p.labels.size())};
}

Value mean_of(double sum, const Predictions& p, const Summary& s) {
  const auto n = static_cast<std::int64_t>(p.labels.size());
  return {s.finite && n > 0 ? sum / static_cast<double>(n) : kNaN, -1, n};
}

Value calibration_error(const Predictions& p, const Summary& s) {
  CalibrationBins bins;
  for (std::size_t i = 0; i < s.confidence.size(); ++i) bins.add(s.confidence[i], s.predicted[i] == p.labels[i]);
  return mean_of(bins.sum(), p, s);
}

struct Sides {
  std::vector<double> unseen, others;  // max p
};

Sides split(const Predictions& p, const Summary& s) {
  Sides sides;
  for (std::size_t i = 0; i < s.confidence.size(); ++i)
    (p.labels[i] == p.held_out_class ? sides.unseen : sides.others).push_back(s.confidence[i]);
  return sides;
}

// Mann-Whitney U by ranks, tied samples sharing the mean of their ranks.
Value auroc_unseen(const Predictions& p, const Summary& s) {
  const Sides sides = split(p, s);
  if (p.held_out_class < 0 || sides.unseen.empty() || sides.others.empty()) return {};
  std::vector<std::pair<double, bool>> samples;  // max p, whether unseen
  samples.reserve(p.labels.size());
  for (const double value : sides.unseen) samples.emplace_back(value, true);
  for (const double value : sides.others) samples.emplace_back(value, false);
  std::ranges::sort(samples, std::greater<>{}, &std::pair<double, bool>::first);
  double rank_sum = 0;  // of the unseen; rank 1 has the largest max p
  for (std::size_t begin = 0; begin < samples.size();) {
    std::size_t end = begin, unseen = 0;
    while (end < samples.size() && samples[end].first == samples[begin].first) unseen += samples[end++].second;
    rank_sum += static_cast<double>(unseen) * (static_cast<double>(begin + 1 + end) / 2);
    begin = end;
  }
  const auto positives = static_cast<double>(sides.unseen.size());
  const double u = rank_sum - positives * (positives + 1) / 2;
  return {u / (positives * static_cast<double>(sides.others.size())), -1, static_cast<std::int64_t>(samples.size())};
}

Value detection_rate(const Predictions& p, const Summary& s) {
  Sides sides = split(p, s);
  if (p.held_out_class < 0 || sides.unseen.empty() || sides.others.empty()) return {};
  const auto alarms = static_cast<std::ptrdiff_t>(sides.others.size()) / kFalseAlarmsPerSamples;
  const auto threshold = sides.others.begin() + alarms;
  std::ranges::nth_element(sides.others, threshold);
  const std::int64_t hits = std::ranges::count_if(sides.unseen, [&](double value) { return value < *threshold; });
  const auto total = static_cast<std::int64_t>(sides.unseen.size());
  return {static_cast<double>(hits) / static_cast<double>(total), hits, total};
}

struct NamedMetric {
  std::string_view name;
  bool probabilities;
  Value (*compute)(const Predictions&, const Summary&);
};

constexpr NamedMetric kComputed[] = {
    {"accuracy", false, accuracy},
    {"balanced_accuracy", false, balanced_accuracy},
    {"macro_f1", false, macro_f1},
    {"nll", true, [](const Predictions& p, const Summary& s) { return mean_of(s.nll, p, s); }},
    {"brier", true, [](const Predictions& p, const Summary& s) { return mean_of(s.brier, p, s); }},
    {"ece", true, calibration_error},
    {"perplexity", true,
     [](const Predictions& p, const Summary& s) {
       Value value = mean_of(s.nll, p, s);
       value.value = std::exp(value.value);
       return value;
     }},
    {"auroc_unseen", true, auroc_unseen},
    {"detection_rate_5", true, detection_rate},
};

const NamedMetric& find_metric(const std::string& name) {
  const auto found = std::ranges::find(kComputed, std::string_view(name), &NamedMetric::name);
  if (found != std::end(kComputed) && metric_index(name) >= 0) return *found;
  std::string known;
  for (const NamedMetric& metric : kComputed) known += (known.empty() ? "" : ", ") + std::string(metric.name);
  throw Error(ErrorKind::config, "metrics: '" + name + "' is unknown; allowed are " + known);
}

}  // namespace

std::vector<EvaluationRow> classification_metrics(const Predictions& predictions, std::span<const std::string> names,
                                                  Phase phase, std::int64_t step) {
  check(predictions);
  std::vector<const NamedMetric*> wanted;
  for (const std::string& name : names) wanted.push_back(&find_metric(name));
  const bool probabilities = std::ranges::any_of(wanted, [](const NamedMetric* m) { return m->probabilities; });
  const Summary summary = summarise(predictions, probabilities);
  std::vector<EvaluationRow> rows;
  rows.reserve(wanted.size());
  for (const NamedMetric* metric : wanted) {
    const Value value = metric->compute(predictions, summary);
    rows.push_back({step, value.value, value.hits, value.total, metric_index(metric->name), phase, {}});
  }
  return rows;
}

}  // namespace tenfold

#include <algorithm>

#include "datasets/folds.h"

namespace tenfold {
namespace {

void summarise_steps(const Dataset& dataset, DatasetSummary& summary) {
  summary.steps = 0;
  summary.shortest = summary.longest = dataset.steps(0);
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    const std::int64_t steps = dataset.steps(i);
    summary.steps += steps;
    summary.shortest = std::min(summary.shortest, steps);
    summary.longest = std::max(summary.longest, steps);
  }
}

void summarise_values(std::span<const float> samples, DatasetSummary& summary) {
  if (samples.empty()) return;
  float low = samples[0], high = samples[0];
  for (const float x : samples) {  // comparisons that a compiler makes vectors of
    low = x < low ? x : low;
    high = x > high ? x : high;
  }
  summary.smallest_value = low;
  summary.largest_value = high;
}

}  // namespace

DatasetSummary summarise(const Dataset& dataset, const std::vector<Split>& splits) {
  DatasetSummary summary;
  summary.fingerprint = dataset.fingerprint();
  summary.samples = dataset.size();
  summary.sample_shape = dataset.sample_shape();
  summary.classes = dataset.classes();
  summary.kind = dataset.kind();
  summary.label_kind = dataset.label_kind();
  summarise_steps(dataset, summary);
  summarise_values(dataset.samples(), summary);
  std::int64_t largest_train = 0;
  for (const Split& split : splits)
    largest_train = std::max(largest_train, static_cast<std::int64_t>(split.train.size()));
  for (const Split& split : splits) {
    const auto train_n = static_cast<std::int64_t>(split.train.size());
    summary.splits.push_back(
        {split.repeat, split.fold, split.hash(), train_n, static_cast<std::int64_t>(split.validation.size()),
         static_cast<std::int64_t>(split.test.size()), dataset.kind() == SampleKind::fixed ? train_n : largest_train});
  }
  return summary;
}

}  // namespace tenfold

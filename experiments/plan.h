#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "experiments/experiment.h"
#include "experiments/hash.h"
#include "experiments/sample_kind.h"

namespace tenfold {

// What the plan needs to know of a split; made by datasets (datasets/folds.h), which knows the samples.
struct SplitSummary {
  int repeat = 0;
  int fold = 0;
  Digest hash;  // of the sample indices of all three parts
  std::int64_t train_n = 0;
  std::int64_t validation_n = 0;
  std::int64_t test_n = 0;
  // Updates of an epoch are epoch_n / batch_size, rounded up: train_n, or for sequences and tokens the largest train_n
  // of all splits, so that folds advance in step (datasets/length_buckets.h).
  std::int64_t epoch_n = 0;
};

struct DatasetSummary {
  Digest fingerprint;  // content hash: samples, labels, groups
  std::int64_t samples = 0;
  std::vector<std::int64_t> sample_shape;  // (features) or (channels, height, width)
  int classes = 0;                         // of tokens: the vocabulary
  SampleKind kind = SampleKind::fixed;
  LabelKind label_kind = LabelKind::sample;
  // Of sequences and tokens: time steps in all, of the shortest, of the longest sample. A fixed sample is one step.
  std::int64_t steps = 0, shortest = 1, longest = 1;
  double smallest_value = 0, largest_value = 0;  // raw; 0 for tokens
  std::vector<SplitSummary> splits;              // by repeat, then fold
};

struct FitUnit {
  Digest identity;             // over (dataset without shift, split, model, train, seed, deterministic)
  std::int32_t configuration;  // any one of those that share the fit
  std::int32_t split;          // index into the configuration's DatasetSummary::splits
};

struct TrialUnit {
  Digest identity;  // the fit's identity and everything that adaptation and evaluation depend on
  std::int32_t configuration;
  std::int32_t split;
  std::int32_t fit;  // index into Plan::fits
};

struct Plan {
  std::vector<DatasetSummary> datasets;  // distinct (dataset without shift, folds)
  std::vector<std::int32_t> dataset_of;  // by configuration
  std::vector<FitUnit> fits;
  std::vector<TrialUnit> trials;  // configuration-major, then repeat, then fold
  const SplitSummary& split(const TrialUnit& t) const { return datasets[dataset_of[t.configuration]].splits[t.split]; }
  const SplitSummary& split(const FitUnit& f) const { return datasets[dataset_of[f.configuration]].splits[f.split]; }
};

// Called once per distinct (dataset without shift, folds).
using DatasetSummariser = std::function<DatasetSummary(const ExperimentSpec&)>;

// share_fits = false gives every trial a fit of its own (--no-share). Throws Error(config) for what only the
// data can tell: a batch larger than the training part, more folds than the smallest class has samples.
Plan make_plan(const Experiment& experiment, const DatasetSummariser& summarise, bool share_fits = true);

bool trains_nothing(const TrainSpec& train);  // train.parameters: none

// Optimizer updates of a fit and of a trial's adaptation. epoch_n: SplitSummary's.
std::int64_t train_updates_per_epoch(const ExperimentSpec& spec, std::int64_t epoch_n);
std::int64_t train_updates(const ExperimentSpec& spec, std::int64_t epoch_n);
std::int64_t adaptation_set_size(const ExperimentSpec& spec, std::int64_t test_n);
std::int64_t ttt_updates(const ExperimentSpec& spec, std::int64_t test_n);  // over all passes

// Units with equal keys may be computed as one array (same stage, tensor shapes and kind of operations).
// Rates, weights and schedules may differ inside an array.
std::string fit_array_key(const ExperimentSpec& spec, const DatasetSummary& data);
std::string trial_array_key(const ExperimentSpec& spec, const DatasetSummary& data);

}  // namespace tenfold

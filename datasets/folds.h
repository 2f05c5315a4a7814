#pragma once

#include <cstdint>
#include <vector>

#include "datasets/dataset.h"
#include "experiments/plan.h"
#include "experiments/spec.h"

namespace tenfold {

// One split of the data. Indices are ascending; the three parts are disjoint. `test` parts of the folds of
// one repeat cover the data, but for held_out_class, whose test part is a stratified fold plus every
// sample of the held-out class, and for predefined folds with negative numbers, which stay in training always.
struct Split {
  int repeat = 0;
  int fold = 0;
  std::vector<std::int64_t> train, validation, test;
  int held_out_class = -1;  // held_out_class: the class that training never sees
  Digest hash() const;      // of repeat and fold (random numbers are keyed by them) and of the indices of all parts
};

// All splits, by repeat, then fold. Guarantees, as in scikit-learn: disjoint and covering; stratified: the
// count of each class differs by at most one between folds; group: no group in two folds. Depends on
// (labels, groups, spec) only, never on the platform. Throws Error(config) where the data forbid the folds.
std::vector<Split> make_splits(const Dataset& dataset, const FoldSpec& spec);

DatasetSummary summarise(const Dataset& dataset, const std::vector<Split>& splits);

}  // namespace tenfold

#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "experiments/records.h"

// Metrics of a classifier from its logits, in double
// precision on the host. Names and directions are in experiments/metric.h.
namespace tenfold {

struct Predictions {
  std::span<const float> logits;         // (n, classes), row-major
  std::span<const std::int64_t> labels;  // (n), 0 .. classes-1
  int classes = 0;
  int held_out_class = -1;  // the class that training did not see; -1: there is none
};

// One row per requested metric, in the order of the names.
//
// accuracy           hits / n; the likeliest class is the first of the largest logits, NaN logits left out; a sample
//                    whose logits are all NaN is a miss
// balanced_accuracy  mean recall over the classes that occur among the labels
// macro_f1           mean F1 over the classes that occur among labels or predictions
// nll                mean of -log p(label), nats
// brier              mean over samples of sum_c (p_c - [c = label])^2, 0 to 2
// ece                sum over 15 bins (lo, hi] of max p: n_bin/n |accuracy - mean max p| (Guo et al. 2017)
// perplexity         exp(nll)
// auroc_unseen       probability that a sample of the held-out class has a smaller max p than another; ties 1/2
// detection_rate_5   share of the held-out class below the largest threshold on max p under which at most 5 % of
//                    the other samples lie
//
// A value is NaN where it is not defined: no samples, no held-out class, one side of it empty, or, for all metrics made
// of probabilities, a logit that is not finite. `total` counts the samples behind the value. Throws Error(config) for
// an unknown metric, Error(data) for labels out of range, Error(internal) for sizes that disagree.
std::vector<EvaluationRow> classification_metrics(const Predictions& predictions, std::span<const std::string> names,
                                                  Phase phase, std::int64_t step);

}  // namespace tenfold

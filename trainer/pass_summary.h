#pragma once

#include <cstdint>
#include <span>

#include "experiments/records.h"

namespace tenfold {

// Columns of the metrics of one update of one lane.
enum PassColumn { kTotal, kEntropy, kDiversity, kWeight, kGradNorm, kPassColumns };

// One batch as it was measured before its update.
struct BatchMeasure {
  std::int64_t samples;                     // real ones: of sequences whose steps are labelled, their steps
  const float* metrics;                     // (kPassColumns)
  const float* mean_probability;            // (classes)
  std::span<const std::int64_t> predicted;  // likeliest classes, -1 for padding
};

// A pass's row but for step, rate and time: means over the batches weighted by their samples (the gradient's norm: over
// the updates), class entropy H(mean p)/log C of the whole pass, distinct and largest classes among the predictions.
TttStepRow summarise_pass(std::span<const BatchMeasure> batches, int classes);

}  // namespace tenfold

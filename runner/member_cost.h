#pragma once

#include <cstdint>

#include "experiments/plan.h"
#include "trainer/model_layout.h"

// What one member of an array costs, estimated from the layout alone: arrays are sized by it, `plan` shows it.
namespace tenfold {

// Bytes: values, gradient, two moments, best copy and new values of every parameter, and the activations of a batch
// with their gradients; without `backward`, in evaluation, those of one layer of a sequence model. Sequences are padded
// to the longest sample.
double member_bytes(const ExperimentSpec& spec, const DatasetSummary& data, const ModelLayout& layout,
                    std::int64_t batch, bool backward);

// What trials need: to adapt, and to be evaluated in batches of their own size.
double trial_bytes(const ExperimentSpec& spec, const DatasetSummary& data, const ModelLayout& layout);

// Multiplications of one update: parameters x samples x their steps on average, and what an update costs however small
// it is; a step of a recurrent net counts as an update of its own, because none can begin before the one before it.
double update_cost(const DatasetSummary& data, const ModelLayout& layout, std::int64_t batch);

// Samples of an evaluation batch.
std::int64_t evaluation_batch(const ExperimentSpec& spec, const DatasetSummary& data);

}  // namespace tenfold

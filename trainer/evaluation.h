#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "experiments/records.h"
#include "trainer/compute.h"
#include "trainer/model.h"

namespace tenfold {

// Gives the samples of every member at the rows of its list, all lists of one length: (K, batch, features).
using BatchGatherer = std::function<at::Tensor(const std::vector<std::vector<std::int64_t>>& rows)>;

inline constexpr std::int64_t kEvaluationBatch = 512;

// Logits of every member over its own list of rows, in eval mode (no dropout, running statistics), in padded batches of
// one size: a member's logits depend on nothing but the member. Host, row-major (rows[k].size(), classes).
std::vector<std::vector<float>> evaluate_logits(const Model& model, ModelState& state,
                                                const std::vector<std::vector<std::int64_t>>& rows,
                                                const BatchGatherer& gather,
                                                std::int64_t batch_size = kEvaluationBatch);

// Whether every one of them is finite.
bool all_finite(const std::vector<float>& logits);

}  // namespace tenfold

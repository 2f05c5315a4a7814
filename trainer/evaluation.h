#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/records.h"
#include "trainer/compute.h"
#include "trainer/model.h"

namespace tenfold {

// Gives the samples of every member at rows `first .. first + 512` of its own list, padded: (K, 512, features).
using BatchGatherer = std::function<at::Tensor(const std::vector<std::vector<std::int64_t>>& rows)>;

// Logits of every member over its own list of rows, in eval mode (no dropout, running statistics), in fixed batches
// of 512 padded ones: a member's logits depend on nothing but the member. Host, row-major (rows[k].size(), classes).
std::vector<std::vector<float>> evaluate_logits(const Model& model, ModelState& state,
                                                const std::vector<std::vector<std::int64_t>>& rows,
                                                const BatchGatherer& gather);

}  // namespace tenfold

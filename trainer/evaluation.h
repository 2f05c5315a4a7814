#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "experiments/records.h"
#include "trainer/compute.h"
#include "trainer/model.h"
#include "trainer/sample_table.h"
#include "trainer/token_metrics.h"

namespace tenfold {

// Gives the samples of every member: indices (K, B) int64 on the device, sample_weight (K, B), padded length.
using BatchGatherer =
    std::function<Batch(const at::Tensor& indices, const at::Tensor& sample_weight, std::int64_t length)>;

// What the members' lists of samples are evaluated with, in eval mode (no dropout, running statistics). A member's
// batches depend on nothing but its own list: fixed samples in padded batches of one size, sequences by padded length.
struct EvaluationPlan {
  std::vector<std::int64_t> counts;         // steps of the sample behind an index of the lists; empty if fixed
  std::vector<std::int64_t> length_bounds;  // padded lengths, ascending; empty if fixed
  std::int64_t batch_size = 0;              // 0: chosen by the samples' length
  Collective* group = nullptr;              // whose ranks each evaluate a part; all get the whole
  std::function<bool()> give_up{};          // asked before every batch; true: throws EvaluationGivenUp
};
// Not an error: a drain came, and what is evaluated is so again when the run goes on.
struct EvaluationGivenUp {};
inline constexpr std::int64_t kEvaluationBatch = 512;
// `fixed_batch` for fixed samples; `mixing_batch` for models in which samples of a batch see each other.
EvaluationPlan evaluation_plan(const Model& model, const SampleTable& table, std::vector<std::int64_t> length_bounds,
                               std::int64_t mixing_batch, std::int64_t fixed_batch = kEvaluationBatch);

// Logits of every member over its own list, host, row-major: (rows[k].size(), classes), or, where each step has a
// label, (steps of the samples one after another, classes). mode: inner rates and who records inner losses.
std::vector<std::vector<float>> evaluate_logits(const Model& model, ModelState& state,
                                                const std::vector<std::vector<std::int64_t>>& rows,
                                                const BatchGatherer& gather, const EvaluationPlan& plan,
                                                const ForwardMode& mode = {});

// Of language models: each step's score (token_metrics.h), samples in the lists' order. `table` has the targets.
std::vector<TokenScores> evaluate_tokens(const Model& model, ModelState& state,
                                         const std::vector<std::vector<std::int64_t>>& rows, const SampleTable& table,
                                         const EvaluationPlan& plan, const ForwardMode& mode = {});

// Whether every one of them is finite.
bool all_finite(const std::vector<float>& values);

}  // namespace tenfold

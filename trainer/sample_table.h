#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "datasets/dataset.h"
#include "trainer/model.h"

namespace tenfold {

// Samples on the computing device, and how a batch of them is put together. Rows of samples are gathered, so any member
// takes any of them.
struct SampleTable {
  SampleKind kind = SampleKind::fixed;
  at::Tensor values;  // fixed (N, features), sequences (steps, features), both float32; tokens (steps) int32
  at::Tensor starts;  // (N) int64 first step of a sample in `values`; undefined if fixed
  at::Tensor counts;  // (N) int64 steps that go into the model; undefined if fixed
  std::vector<std::int64_t> host_counts;  // (N), or empty if fixed
  std::int64_t size() const { return kind == SampleKind::fixed ? values.size(0) : starts.size(0); }
};

// The steps of a batch of sequences, padded to one length.
struct StepRows {
  at::Tensor rows;    // (K, B, T) int64 into `values`; padding repeats the last step
  at::Tensor weight;  // (K, B, T) float32: 1 real, 0 padding
};
// indices (K, B) int64; sample_weight (K, B): 0 for a row that is padding as a whole.
StepRows step_rows(const SampleTable& table, const at::Tensor& indices, const at::Tensor& sample_weight,
                   std::int64_t length);

// The whole of `host`, without a copy on CPUs (the mapped cache is read as steps are gathered: a set may exceed
// memory).
SampleTable sample_table(const Dataset& host, at::Device device);
// On the device; on a CPU a view of `values`, which must live as long.
at::Tensor integers_of(std::span<const std::int64_t> values, at::Device device);
// Some of its samples, in that order. Tokens go on sharing their values.
SampleTable chosen_samples(const SampleTable& table, std::span<const std::int64_t> indices);
// One after another; what shares its values goes on sharing them.
SampleTable concatenated(std::span<const SampleTable> tables);

// What the model is given of tokens and of values that are normalised already: (K, B) samples, sequences padded to
// `length` steps with zeros.
Batch gather_batch(const SampleTable& table, const at::Tensor& indices, const at::Tensor& sample_weight,
                   std::int64_t length);
// The next token of each step: (K, B * T) int64.
at::Tensor next_tokens(const SampleTable& table, const StepRows& steps);

// Rows of logits (model.h) of a batch: their weights (K, R). R = B with one label a sample, B * T with one a step.
at::Tensor row_weights(LabelKind labels, const Batch& batch, const at::Tensor& sample_weight);

}  // namespace tenfold

#pragma once

#include <ATen/core/Tensor.h>

#include <span>

#include "trainer/array.h"
#include "trainer/layers.h"
#include "trainer/sample_table.h"

namespace tenfold {

// The samples of an array of fits as its steps take them: each member's normalisation, and the labels to be learned.
class TrainingData {
 public:
  TrainingData(std::span<const ArrayMember> members, const at::Device& device);

  // The normalised samples at `indices` of the dataset, (K, B) int64, sequences padded to `length` steps.
  Batch gather(const at::Tensor& indices, const at::Tensor& sample_weight, std::int64_t length) const;
  // Mean cross entropy over the labels of a batch with its gradient at the logits (K, R, C): over samples, steps that
  // have a label, or next tokens. `count` (K): of the labels of the whole batch, where this is a part of one.
  layers::LossAndGradient loss(const at::Tensor& logits, const at::Tensor& indices, const at::Tensor& sample_weight,
                               std::int64_t length, const at::Tensor& count = {}) const;
  // Labels of these samples of the dataset: what a mean loss over them is over.
  std::int64_t labels_in(std::span<const std::int64_t> samples) const;

 private:
  std::shared_ptr<const DeviceDataset> dataset_;
  LabelKind label_kind_;
  at::Tensor offset_, scale_;  // (K, 1, features), or (K, groups, features); undefined for tokens
  at::Tensor smoothing_;       // (K, 1, 1)
  bool smooths_ = false;
};

}  // namespace tenfold

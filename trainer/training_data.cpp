#include "trainer/training_data.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace tenfold {

TrainingData::TrainingData(std::span<const ArrayMember> members, const at::Device& device)
    : dataset_(members.front().fold->dataset), label_kind_(dataset_->host->label_kind()) {
  std::vector<at::Tensor> offsets, scales;
  std::vector<float> smoothing;
  for (const ArrayMember& member : members) {
    if (member.fold->offset.defined()) {
      offsets.push_back(member.fold->offset);
      scales.push_back(member.fold->scale);
    }
    smoothing.push_back(static_cast<float>(member.spec.train.label_smoothing));
    smooths_ |= member.spec.train.label_smoothing > 0;
  }
  if (!offsets.empty()) {
    offset_ = at::stack(offsets);
    scale_ = at::stack(scales);
  }
  smoothing_ = at::tensor(smoothing, at::kFloat).to(device).view({-1, 1, 1});
}

Batch TrainingData::gather(const at::Tensor& indices, const at::Tensor& sample_weight, std::int64_t length) const {
  const SampleTable& table = dataset_->table;
  if (table.kind == SampleKind::tokens) return gather_batch(table, indices, sample_weight, length);
  if (table.kind == SampleKind::fixed) {
    const at::Tensor raw = table.values.index_select(0, indices.flatten());
    return {raw.view({indices.size(0), indices.size(1), raw.size(1)}).sub_(offset_).mul_(scale_), {}};
  }
  at::NoGradGuard no_grad;
  const StepRows steps = step_rows(table, indices, sample_weight, length);
  at::Tensor x = table.values.index_select(0, steps.rows.flatten())
                     .view({indices.size(0), indices.size(1), length, table.values.size(1)});
  if (offset_.size(1) == 1) {
    x.sub_(offset_.unsqueeze(1)).mul_(scale_.unsqueeze(1));
  } else {
    const at::Tensor group = dataset_->groups.index_select(0, indices.flatten()).view_as(indices);  // (K, B)
    const at::Tensor at = group.unsqueeze(-1).expand({-1, -1, offset_.size(2)});
    x.sub_(offset_.gather(1, at).unsqueeze(2)).mul_(scale_.gather(1, at).unsqueeze(2));
  }
  return {x.mul_(steps.weight.unsqueeze(-1)), steps.weight};
}

layers::LossAndGradient TrainingData::loss(const at::Tensor& logits, const at::Tensor& indices,
                                           const at::Tensor& sample_weight, std::int64_t length,
                                           const at::Tensor& count) const {
  at::NoGradGuard no_grad;
  const SampleTable& table = dataset_->table;
  if (table.kind == SampleKind::fixed) {
    const at::Tensor labels = dataset_->labels.index_select(0, indices.flatten());
    at::Tensor target = dataset_->one_hot.index_select(0, labels).view({indices.size(0), indices.size(1), -1});
    if (smooths_) target = target * (1 - smoothing_) + smoothing_ / static_cast<double>(target.size(-1));
    return layers::cross_entropy(logits, target, sample_weight, count);
  }
  const at::Tensor smoothing = smooths_ ? smoothing_ : at::Tensor();
  if (label_kind_ == LabelKind::sample) {
    const at::Tensor labels = dataset_->labels.index_select(0, indices.flatten()).view_as(indices);
    return layers::cross_entropy_of_labels(logits, labels, sample_weight, smoothing, count);
  }
  const StepRows steps = step_rows(table, indices, sample_weight, length);
  const at::Tensor weight = steps.weight.flatten(1);
  if (label_kind_ == LabelKind::next_token)
    return layers::cross_entropy_of_labels(logits, next_tokens(table, steps), weight, smoothing, count);
  const at::Tensor labels = dataset_->labels.index_select(0, steps.rows.flatten()).view_as(weight);
  return layers::cross_entropy_of_labels(logits, labels.clamp_min(0), weight * (labels >= 0), smoothing, count);
}

std::int64_t TrainingData::labels_in(std::span<const std::int64_t> samples) const {
  if (label_kind_ == LabelKind::sample) return static_cast<std::int64_t>(samples.size());
  const Dataset& host = *dataset_->host;
  std::int64_t count = 0;
  for (const std::int64_t sample : samples) {
    const std::int64_t steps = host.steps(sample);
    if (label_kind_ == LabelKind::next_token) {
      count += steps;
      continue;
    }
    const auto labels = host.labels().subspan(static_cast<std::size_t>(host.starts()[static_cast<std::size_t>(sample)]),
                                              static_cast<std::size_t>(steps));
    count += std::ranges::count_if(labels, [](std::int64_t label) { return label >= 0; });
  }
  return count;
}

}  // namespace tenfold

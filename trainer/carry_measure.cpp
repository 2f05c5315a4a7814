#include "trainer/carry_measure.h"

#include <ATen/ATen.h>

namespace tenfold {

void CarryMeasure::enter(int layer, const std::vector<at::Tensor>& weights) {
  Layer& of = layers_[layer];
  if (of.left.size() != weights.size() || weights.empty()) return;
  at::Tensor squares;  // (K, B)
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const at::Tensor part = (weights[i] - of.left[i]).square().flatten(2).sum(-1);
    squares = squares.defined() ? squares + part : part;
  }
  const at::Tensor gap = squares.sqrt();
  of.gap = of.gap.defined() ? at::maximum(of.gap, gap) : gap;
}

void CarryMeasure::leave(int layer, const std::vector<at::Tensor>& weights) {
  Layer& of = layers_[layer];
  of.left.clear();
  // Copies: the stream goes on to change its own.
  for (const at::Tensor& weight : weights) of.left.push_back(weight.clone());
}

at::Tensor CarryMeasure::largest_gap(int layer) const {
  const auto found = layers_.find(layer);
  return found == layers_.end() ? at::Tensor() : found->second.gap;
}

std::vector<at::Tensor> initial_weights(const InnerModel& model) {
  std::vector<at::Tensor> all;
  for (const auto* tensors : {&model.weights, &model.biases})
    for (const at::Tensor& tensor : *tensors) all.push_back(tensor.unsqueeze(1));
  return all;
}

}  // namespace tenfold

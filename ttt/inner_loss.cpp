#include "ttt/inner_loss.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace tenfold {

InnerLossRecorder::InnerLossRecorder(std::vector<int> layers, std::int64_t members, std::int64_t max_positions,
                                     const at::Device& device)
    : layers_(std::move(layers)),
      max_positions_(max_positions),
      sums_(at::zeros({static_cast<std::int64_t>(layers_.size()), members, 4, max_positions},
                      at::TensorOptions(at::kDouble).device(device))) {}

bool InnerLossRecorder::wants(int layer) const {
  return std::find(layers_.begin(), layers_.end(), layer) != layers_.end();
}

void InnerLossRecorder::add(int layer, const at::Tensor& l0, const at::Tensor& lprev, const at::Tensor& lafter,
                            const at::Tensor& step_weight, std::int64_t first_position) {
  const std::int64_t index = std::find(layers_.begin(), layers_.end(), layer) - layers_.begin();
  const std::int64_t tokens = std::min(l0.size(2), max_positions_ - first_position);
  if (index == static_cast<std::int64_t>(layers_.size()) || tokens <= 0) return;
  at::NoGradGuard no_grad;
  // Sums over streams as a matrix product: in an order that does not depend on K.
  const at::Tensor ones = at::ones({l0.size(0), 1, l0.size(1)}, sums_.options());
  const at::Tensor real = step_weight.defined() ? step_weight.narrow(2, 0, tokens) > 0 : at::Tensor();
  const auto sum = [&](const at::Tensor& values) {  // (K, B, T) -> (K, T)
    const at::Tensor seen = values.narrow(2, 0, tokens).to(at::kDouble);
    // where, not a product: what a model says of padding may not be finite.
    return at::bmm(ones, real.defined() ? at::where(real, seen, at::zeros({}, seen.options())) : seen).squeeze(1);
  };
  const at::Tensor weight = real.defined() ? real : at::ones_like(l0);
  sums_.select(0, index)
      .narrow(2, first_position, tokens)
      .add_(at::stack({sum(l0), sum(lprev), sum(lafter), sum(weight)}, 1));
}

void InnerLossRecorder::reset() { sums_.zero_(); }

std::vector<InnerLossRecorder::Curves> InnerLossRecorder::curves(std::int64_t k) const {
  const at::Tensor host = sums_.select(1, k).to(at::kCPU).contiguous();  // (layers, 4, positions)
  const auto values = host.accessor<double, 3>();
  std::vector<Curves> all;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    Curves curve{layers_[i], {}, {}, {}, {}};
    std::int64_t end = max_positions_;
    while (end > 0 && values[i][3][end - 1] == 0) --end;
    for (std::int64_t t = 0; t < end; ++t) {
      const double weight = values[i][3][t];
      // A position that no stream reached has no mean; it is kept as weight 0 beside zeros.
      const double share = weight > 0 ? 1 / weight : 0;
      curve.l0.push_back(values[i][0][t] * share);
      curve.lprev.push_back(values[i][1][t] * share);
      curve.lafter.push_back(values[i][2][t] * share);
      curve.weight.push_back(weight);
    }
    all.push_back(std::move(curve));
  }
  return all;
}

}  // namespace tenfold

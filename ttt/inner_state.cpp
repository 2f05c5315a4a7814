#include <ATen/ATen.h>

#include "ttt/inner_loop.h"
#include "ttt/inner_loop_group.h"
#include "ttt/inner_loop_losses.h"
#include "ttt/inner_loop_shapes.h"
#include "ttt/inner_loss.h"

namespace tenfold {
namespace {

using inner::FastWeights;
using inner::LossCollector;
using inner::Sizes;

// The weights after the open mini-batch, closed at its last real token.
FastWeights closed(const InnerState& state, const at::Tensor& row_coefficient, std::int64_t mini_batch_size) {
  FastWeights fast = inner::flattened(state.weights, state.biases);
  if (state.weight_sums.empty()) return fast;
  const at::Tensor& first = state.weights[0];
  const Sizes sizes{first.size(0), first.size(1), first.size(2), 0, 0};
  at::Tensor c = at::ones({1, 1, 1}, first.options());
  if (row_coefficient.defined())
    c = inner::last_coefficient(row_coefficient,
                                state.open_tokens.defined() ? state.open_tokens.unsqueeze(0) : at::Tensor(),
                                (state.position - 1) % mini_batch_size, 1, sizes)[0];
  return inner::moved(fast, inner::flattened(state.weight_sums, state.bias_sums), c);
}

}  // namespace

std::vector<at::Tensor> current_weights(const InnerState& state, const at::Tensor& row_coefficient,
                                        const InnerLoopOptions& options) {
  at::NoGradGuard no_grad;
  if (!state.begun()) return {};
  const FastWeights fast = closed(state, row_coefficient, options.mini_batch_size);
  const at::Tensor& first = state.weights[0];
  const Sizes sizes{first.size(0), first.size(1), first.size(2), 0, 0};
  std::vector<at::Tensor> all = inner::unflattened(fast.weights, sizes),
                          biases = inner::unflattened(fast.biases, sizes);
  all.insert(all.end(), biases.begin(), biases.end());
  return all;
}

void finish_streams(const InnerModel& model, const at::Tensor& row_coefficient, const InnerLoopOptions& options,
                    InnerState& state, InnerLossRecorder* recorder, int layer) {
  at::NoGradGuard no_grad;
  if (!state.begun() || state.weight_sums.empty()) return;
  const at::Tensor& first = state.weights[0];
  const Sizes sizes{first.size(0), first.size(1), first.size(2), 0, 0};
  const FastWeights before = inner::flattened(state.weights, state.biases);
  const FastWeights after = closed(state, row_coefficient, options.mini_batch_size);
  if (recorder != nullptr && recorder->wants(layer) && state.pending_keys.defined()) {
    const std::int64_t pending = state.pending_keys.size(3);
    LossCollector losses(model, sizes, options.eps, *recorder, layer);
    losses.close(state.pending_keys.flatten(0, 2), state.pending_targets.flatten(0, 2), before, after);
    at::Tensor weight;
    if (state.open_tokens.defined())
      weight = (at::arange(pending, state.open_tokens.options()) < state.open_tokens.unsqueeze(-1))
                   .to(state.pending_keys.scalar_type());
    losses.hand_over(state.origin + state.position - pending, weight);
  }
  state.weights = inner::unflattened(after.weights, sizes);
  state.biases = inner::unflattened(after.biases, sizes);
  state.weight_sums.clear();
  state.bias_sums.clear();
  state.pending_keys = state.pending_targets = at::Tensor();
}

at::Tensor movement_norm(const InnerModel& model, const InnerState& state, const at::Tensor& row_coefficient,
                         const InnerLoopOptions& options) {
  at::NoGradGuard no_grad;
  const std::vector<at::Tensor> now = current_weights(state, row_coefficient, options);
  at::Tensor squared;
  for (std::size_t i = 0; i < now.size(); ++i) {
    const std::size_t layers = model.weights.size();
    const at::Tensor& initial = i < layers ? model.weights[i] : model.biases[i - layers];
    const at::Tensor layer = (now[i] - initial.unsqueeze(1)).square().flatten(2).sum(-1);
    squared = squared.defined() ? squared + layer : layer;
  }
  return squared.defined() ? squared.sqrt() : at::Tensor();
}

std::int64_t InnerState::bytes() const {
  std::int64_t total = 0;
  const auto add = [&](const at::Tensor& tensor) {
    if (tensor.defined()) total += static_cast<std::int64_t>(tensor.storage().nbytes());
  };
  for (const auto* list : {&weights, &biases, &weight_sums, &bias_sums})
    for (const at::Tensor& tensor : *list) add(tensor);
  for (const at::Tensor* tensor : {&open_tokens, &pending_keys, &pending_targets}) add(*tensor);
  return total;
}

}  // namespace tenfold

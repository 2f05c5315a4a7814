#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

namespace tenfold {

// Collects how the inner loop of TTT layers learns while a model runs: per layer and token position, over the streams
// of the forward passes since the last reset,
//   loss(W; x) = mean over f and heads of (ln(model(k; W)) - Y)^2     (2/f times the loss that the inner step lowers)
//   l0(t) = loss(W_0; x_t)   lprev(t) = loss(W before x_t's update; x_t)   lafter(t) = loss(W after it; x_t)
// (Sun et al. 2024, figure 5). W_0 is the learned initial state, never the state at a call's entry. A mini-batch of
// several tokens moves as one: lprev uses the weights at its start, lafter those at its end. Sums stay on the device,
// in float64, until they are read.
class InnerLossRecorder {
 public:
  // layers: indices of the model's layers that are wanted.
  InnerLossRecorder(std::vector<int> layers, std::int64_t members, std::int64_t max_positions,
                    const at::Device& device);
  bool wants(int layer) const;
  // Losses of one call, each (K, B, T), T tokens from `first_position` of their streams; step_weight (K, B, T) is 0 for
  // padding, undefined where all are real. Positions from max_positions on are left out. No gradient is kept.
  void add(int layer, const at::Tensor& l0, const at::Tensor& lprev, const at::Tensor& lafter,
           const at::Tensor& step_weight, std::int64_t first_position = 0);
  void reset();

  struct Curves {
    int layer;
    std::vector<double> l0, lprev, lafter;  // by position: means; cut after the last position that was seen
    std::vector<double> weight;             // streams behind each
  };
  // One per layer, of member k; a synchronisation with the device.
  std::vector<Curves> curves(std::int64_t k) const;

 private:
  std::vector<int> layers_;
  std::int64_t max_positions_;
  at::Tensor sums_;  // (layers, K, 4, positions) float64: l0, lprev, lafter, weight
};

}  // namespace tenfold

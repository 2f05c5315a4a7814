#pragma once

#include <vector>

#include "ttt/inner_loop_group.h"
#include "ttt/inner_loop_shapes.h"
#include "ttt/inner_loss.h"

namespace tenfold::inner {

// Collects the losses of closed mini-batches and hands them to the recorder in one piece.
class LossCollector {
 public:
  LossCollector(const InnerModel& model, const Sizes& sizes, double eps, InnerLossRecorder& recorder, int layer);
  // keys, targets (N, l, f) of a mini-batch that moved the weights.
  void close(const at::Tensor& keys, const at::Tensor& targets, const FastWeights& before, const FastWeights& after);
  void hand_over(std::int64_t first_position, const at::Tensor& step_weight);

 private:
  at::Tensor loss(const FastWeights& fast, const at::Tensor& keys, const at::Tensor& targets) const;

  Sizes sizes_;
  double eps_;
  InnerLossRecorder& recorder_;
  int layer_;
  FastWeights initial_;
  at::Tensor norm_weight_, norm_bias_;  // (N, 1, f)
  std::vector<at::Tensor> l0_, lprev_, lafter_;
};

}  // namespace tenfold::inner

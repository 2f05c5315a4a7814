#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <vector>

#include "ttt/inner_loop.h"

namespace tenfold {

// Whether the fast weights that enter a call of a stream are those that the call before left, by layer. Weights are
// lists of tensors (K, B, ...), or (K, 1, ...) for W_0 of all streams; a copy of the last ones is kept.
class CarryMeasure {
 public:
  void enter(int layer, const std::vector<at::Tensor>& weights);
  void leave(int layer, const std::vector<at::Tensor>& weights);
  // (K, B) the largest |W entering - W after the call before| so far; undefined before the second call.
  at::Tensor largest_gap(int layer) const;

 private:
  struct Layer {
    std::vector<at::Tensor> left;
    at::Tensor gap;
  };
  std::map<int, Layer> layers_;
};

// W_0 as such a list, for all streams.
std::vector<at::Tensor> initial_weights(const InnerModel& model);

}  // namespace tenfold

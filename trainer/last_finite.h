#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "trainer/model.h"

namespace tenfold {

// The last parameters and buffers of each member of an array of fits by which a loss was finite, kept beside the
// running ones (on_nonfinite.policy: stop). Part of the step that a CUDA graph captures.
class LastFinite {
 public:
  // trained: places of the parameters that change; buffers all do.
  LastFinite(const ModelState& state, const std::vector<std::size_t>& trained);

  void begin(const ModelState& state);  // a step: what its loss is computed by
  // loss, grad_norm, active (K) of that step. Where the loss is finite, its parameters are the last good ones; after a
  // loss or a gradient that is not, nothing is taken any more.
  void end(const at::Tensor& loss, const at::Tensor& grad_norm, const at::Tensor& active);

  // Member k becomes what it was then; the others keep every bit.
  void put_back(ModelState& state, std::int64_t k) const;

  // Every tensor that a checkpoint must hold, by the name of its parameter or buffer.
  void visit(const ModelLayout& layout, const std::function<void(const std::string&, at::Tensor&)>& visit);
  void begin_at(const ModelState& state, std::int64_t k);  // of a checkpoint without them

 private:
  std::vector<at::Tensor> values_of(const ModelState& state) const;
  std::vector<std::size_t> trained_;
  std::vector<at::Tensor> current_, finite_;  // trained parameters, then buffers
  at::Tensor alive_;                          // (K) bool
};

}  // namespace tenfold

#include "ttt/per_stream.h"

#include <ATen/ATen.h>

namespace tenfold::inner {
namespace {

class OverStreams : public torch::autograd::Function<OverStreams> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& x, std::int64_t streams) {
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape.insert(shape.begin() + 1, streams);
    return x.unsqueeze(1).expand(shape).contiguous();
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*,
                                                 const torch::autograd::variable_list& outputs) {
    const at::Tensor& gradient = outputs[0];  // (K, B, ...)
    if (!gradient.is_cpu()) return {gradient.sum(1), at::Tensor()};
    std::vector<std::int64_t> shape = gradient.sizes().vec();
    shape.erase(shape.begin() + 1);
    const at::Tensor rows = gradient.contiguous().flatten(2);
    return {at::bmm(at::ones({rows.size(0), 1, rows.size(1)}, rows.options()), rows).view(shape), at::Tensor()};
  }
};

}  // namespace

at::Tensor over_streams(const at::Tensor& x, std::int64_t streams) { return OverStreams::apply(x, streams); }

}  // namespace tenfold::inner

#include "ttt/smooth.h"

#include <ATen/ATen.h>

namespace tenfold::inner {
namespace {

constexpr double kScale = 0.79788456080286535588, kCubic = 0.044715;
// Two of the widest vectors: the library computes so many values at a time, and what is left over one by one.
constexpr std::int64_t kTogether = 32;

class LogisticOnCpu : public torch::autograd::Function<LogisticOnCpu> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x) {
    const at::Tensor y = x.neg().exp_().add_(1).reciprocal_();
    context->save_for_backward({y});
    return y;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& outputs) {
    const at::Tensor y = context->get_saved_variables()[0];
    return {outputs[0] * (y * (1 - y))};
  }
};

bool the_library_is_even(const at::Tensor& x) { return !x.is_cpu() || x.numel() / x.size(0) % kTogether == 0; }

at::Tensor open_share(const at::Tensor& x, const at::Tensor& square) {
  return logistic(x * (square * (2 * kScale * kCubic) + 2 * kScale));
}

}  // namespace

at::Tensor logistic(const at::Tensor& x) { return x.is_cpu() ? LogisticOnCpu::apply(x) : at::sigmoid(x); }

at::Tensor gelu(const at::Tensor& x) {
  if (the_library_is_even(x)) return at::gelu(x, "tanh");
  return x * open_share(x, x * x);
}

at::Tensor gelu_backward(const at::Tensor& gradient, const at::Tensor& x) {
  if (the_library_is_even(x)) return at::gelu_backward(gradient, x, "tanh");
  const at::Tensor square = x * x, open = open_share(x, square);
  const at::Tensor slope = open + x * open * (1 - open) * (square * (6 * kScale * kCubic) + 2 * kScale);
  return gradient * slope;
}

}  // namespace tenfold::inner

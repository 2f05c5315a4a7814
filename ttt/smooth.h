#pragma once

#include <ATen/core/Tensor.h>

// Activations with the same bits wherever a value lies in its tensor, which is what a member's bits in an array rest
// on: on a CPU the library rounds the last few values of a tensor otherwise than the others.
namespace tenfold::inner {

// 1 / (1 + exp(-x))
at::Tensor logistic(const at::Tensor& x);

// x (first, ...): values of one x[0] keep together, as those of a member or of an inner model. gelu in its tanh form,
// x * logistic(2 u), u = 0.79788456 (x + 0.044715 x^3).
at::Tensor gelu(const at::Tensor& x);

// gradient * gelu'(x), differentiable in both.
at::Tensor gelu_backward(const at::Tensor& gradient, const at::Tensor& x);

}  // namespace tenfold::inner

#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace tenfold {
class Collective;  // collective.h
}

// The layer functions that models are written with. Everything is stacked: the leading dimension K is the
// members of an array (fits or trials computed as one), and no function mixes members, so a model reads as for one
// trial. On CPU each gives a member the same bits whatever K is, but for conv2d without `deterministic`.
namespace tenfold::layers {

// x (K, B, in), weight (K, in, out), bias (K, out) -> (K, B, out)
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

// Over the last dimension, biased variance, eps 1e-5: xhat * weight + bias. x (K, B, F), weight, bias (K, F).
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

// One group over (channels, height, width), affine per channel: x (K, B, C, H, W), weight, bias (K, C).
at::Tensor layer_norm_image(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

// Statistics of a batch norm, taken per feature over the real samples of the batch.
struct BatchNormState {
  at::Tensor running_mean;  // (K, F) updated in place
  at::Tensor running_var;   // (K, F)
};
// Batch norm, eps 1e-5 (Ioffe and Szegedy 2015). x (K, B, F) or (K, B, C, H, W); sample_weight (K, B): padding has
// weight 0 and changes nothing. With batch_statistics the batch's own (biased) variance normalises, and the running
// values move to the batch's (unbiased) ones by momentum (K), which is 0 where a member must not change. The batch is
// that of all ranks of `group`, where there is one.
at::Tensor batch_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, BatchNormState& state,
                      const at::Tensor& sample_weight, bool batch_statistics, const at::Tensor& momentum,
                      Collective* group = nullptr);

// name: relu gelu tanh. gelu is the exact (erf) one.
at::Tensor activation(const at::Tensor& x, const std::string& name);

// dropout(relu(layer_norm(linear(x)))) as one operation of autograd, for the CPU: a small network's step is mostly the
// cost of starting operations. mask (K, B, out) or undefined. The same function as the four it stands for.
at::Tensor hidden_layer(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                        const at::Tensor& norm_weight, const at::Tensor& norm_bias, const at::Tensor& mask);

// x (K, B, C, H, W), weight (K, out, C, k, k), bias (K, out), stride 1, zero padding k/2 -> (K, B, out, H, W).
// A grouped convolution; with `deterministic` im2col and matrix products, which give the same bits for any K.
at::Tensor conv2d(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, bool deterministic);

// 2 x 2, stride 2: (K, B, C, H, W) -> (K, B, C, H/2, W/2)
at::Tensor max_pool2(const at::Tensor& x);

struct LossAndGradient {
  at::Tensor loss;            // (K)
  at::Tensor logit_gradient;  // (K, B, C) d loss[k] / d logits[k]
};
// Mean over the real samples of the cross entropy with smoothed labels,
//   q = (1 - s) onehot + s / C,   loss = -sum_c q log p,   gradient (p - q) / n   (Szegedy et al. 2016).
// logits (K, B, C), target (K, B, C) = q, sample_weight (K, B). Outside of autograd. `count` (K), where it is defined,
// is what n is instead: of a batch of which this is a part, with its share of the loss.
LossAndGradient cross_entropy(const at::Tensor& logits, const at::Tensor& target, const at::Tensor& sample_weight,
                              const at::Tensor& count = {});
// The same of many rows or classes without a target of their size: labels (K, R) int64, weight (K, R), smoothing (K, 1,
// 1) or undefined for none.
LossAndGradient cross_entropy_of_labels(const at::Tensor& logits, const at::Tensor& labels, const at::Tensor& weight,
                                        const at::Tensor& smoothing, const at::Tensor& count = {});

}  // namespace tenfold::layers

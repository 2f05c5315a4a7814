#include <ATen/ATen.h>

#include <cmath>

#include "ttt/inner_loop.h"
#include "ttt/per_stream.h"
#include "ttt/smooth.h"

namespace tenfold {

at::Tensor token_rates(const at::Tensor& x, const at::Tensor& theta, const at::Tensor& bias, const at::Tensor& base_lr,
                       double divisor) {
  const std::int64_t members = x.size(0), streams = x.size(1), tokens = x.size(2), heads = theta.size(1);
  // (K, B T, H): one product for all heads.
  const at::Tensor logits = at::baddbmm(bias.transpose(1, 2), x.flatten(1, 2), theta.squeeze(2).transpose(1, 2));
  const at::Tensor scale = (base_lr / divisor).view({members, 1, 1, 1});
  return inner::logistic(logits).view({members, streams, tokens, heads}).transpose(2, 3) * scale;
}

at::Tensor row_coefficients(const at::Tensor& delta) {
  const at::Tensor row = at::arange(1, delta.size(-1) + 1, delta.options().requires_grad(false));
  return (row.reciprocal() + delta).clamp_min(0);
}

at::Tensor unit_length(const at::Tensor& x) { return x * (x.square().sum(-1, true) + 1e-24).rsqrt(); }

at::Tensor normalised_values(const at::Tensor& v, const at::Tensor& k, const InnerModel& model) {
  const at::Tensor weight = inner::over_streams(model.norm_weight.unsqueeze(2), v.size(1));  // (K, B, H, 1, f)
  const at::Tensor bias = inner::over_streams(model.norm_bias.unsqueeze(2), v.size(1));
  const at::Tensor error = v - k;
  const at::Tensor centred = error - error.mean(-1, true);
  // Unbiased.
  const at::Tensor sd = (centred.square().sum(-1, true) / static_cast<double>(v.size(-1) - 1)).clamp_min(1e-30).sqrt();
  return k + at::addcmul(bias, centred / (sd + 1e-5), weight);
}

at::Tensor rotate_pairs(const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine) {
  const auto pairs = x.unflatten(-1, {x.size(-1) / 2, 2}).unbind(-1);
  return at::stack({pairs[0] * cosine - pairs[1] * sine, pairs[0] * sine + pairs[1] * cosine}, -1).flatten(-2);
}

}  // namespace tenfold

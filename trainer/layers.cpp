#include "trainer/layers.h"

#include <ATen/ATen.h>

#include "experiments/error.h"
#include "trainer/collective.h"

namespace tenfold::layers {
namespace {

constexpr double kNormEps = 1e-5;

// (K, F) beside x (K, B, F) or (K, B, F, H, W).
at::Tensor per_feature(const at::Tensor& values, const at::Tensor& x) {
  const at::Tensor row = values.unsqueeze(1);
  return x.dim() == 3 ? row : row.unsqueeze(-1).unsqueeze(-1);
}

}  // namespace

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return at::baddbmm(bias.unsqueeze(1), x, weight);
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const at::Tensor xhat = at::layer_norm(x, {x.size(-1)}, {}, {}, kNormEps);
  return at::addcmul(per_feature(bias, x), xhat, per_feature(weight, x));
}

at::Tensor layer_norm_image(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const at::Tensor xhat = at::layer_norm(x.flatten(2), {x[0][0].numel()}, {}, {}, kNormEps).view(x.sizes());
  return at::addcmul(per_feature(bias, x), xhat, per_feature(weight, x));
}

at::Tensor batch_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, BatchNormState& state,
                      const at::Tensor& sample_weight, bool batch_statistics, const at::Tensor& momentum,
                      Collective* group) {
  if (!batch_statistics) {
    const at::Tensor scale = weight * (state.running_var + kNormEps).rsqrt();
    const at::Tensor offset = bias - state.running_mean * scale;
    return at::addcmul(per_feature(offset, x), x, per_feature(scale, x));
  }
  // Means over samples as matrix products (see ttt/objective.cpp on the order of sums).
  const std::int64_t positions = x.dim() == 3 ? 1 : x.size(3) * x.size(4);
  const auto over_ranks = [&](const at::Tensor& part) { return group != nullptr ? summed(*group, part) : part; };
  const at::Tensor real_count = over_ranks(sample_weight.sum(-1, true));  // (K, 1)
  const at::Tensor count = real_count.clamp_min(1);
  const at::Tensor share = (sample_weight / count).unsqueeze(1);  // (K, 1, B)
  const auto mean_of = [&](const at::Tensor& values) {
    const at::Tensor per_sample = values.dim() == 3 ? values : values.flatten(3).mean(-1);  // (K, B, F)
    return over_ranks(share.bmm(per_sample).squeeze(1));                                    // (K, F)
  };
  const at::Tensor mean = mean_of(x);
  const at::Tensor centred = x - per_feature(mean, x);
  const at::Tensor var = mean_of(centred * centred);
  {
    at::NoGradGuard no_grad;
    const at::Tensor n = count * static_cast<double>(positions);
    const at::Tensor real = (real_count.squeeze(-1) > 0).to(x.scalar_type());
    const at::Tensor rate = (momentum * real).unsqueeze(-1);
    const at::Tensor unbiased = var * (n / (n - 1).clamp_min(1));
    // where, not lerp by 0: a NaN in a batch that must not count would pass through the product.
    state.running_mean.copy_(at::where(rate > 0, at::lerp(state.running_mean, mean, rate), state.running_mean));
    state.running_var.copy_(at::where(rate > 0, at::lerp(state.running_var, unbiased, rate), state.running_var));
  }
  const at::Tensor xhat = centred * per_feature((var + kNormEps).rsqrt(), x);
  return at::addcmul(per_feature(bias, x), xhat, per_feature(weight, x));
}

at::Tensor activation(const at::Tensor& x, const std::string& name) {
  if (name == "relu") return at::relu(x);
  if (name == "gelu") return at::gelu(x);
  if (name == "tanh") return at::tanh(x);
  throw Error(ErrorKind::internal, "no activation is called " + name);
}

at::Tensor conv2d(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, bool deterministic) {
  const std::int64_t members = x.size(0), batch = x.size(1), height = x.size(3), width = x.size(4);
  const std::int64_t out = weight.size(1), kernel = weight.size(3);
  if (deterministic) {
    const at::Tensor columns =
        at::im2col(x.flatten(0, 1), {kernel, kernel}, {1, 1}, {kernel / 2, kernel / 2}, {1, 1});  // (K B, C k k, H W)
    const at::Tensor rows =
        columns.view({members, batch, columns.size(1), height * width}).transpose(2, 3).flatten(1, 2);
    const at::Tensor y = linear(rows.contiguous(), weight.flatten(2).transpose(1, 2).contiguous(), bias);
    return y.view({members, batch, height * width, out})
        .transpose(2, 3)
        .contiguous()
        .view({members, batch, out, height, width});
  }
  const at::Tensor stacked = x.transpose(0, 1).flatten(1, 2);  // (B, K C, H, W)
  const at::Tensor y = at::conv2d(stacked, weight.flatten(0, 1), bias.flatten(), {1, 1},
                                  at::IntArrayRef{kernel / 2, kernel / 2}, {1, 1}, members);
  return y.view({batch, members, out, height, width}).transpose(0, 1).contiguous();
}

at::Tensor max_pool2(const at::Tensor& x) {
  const at::Tensor y = at::max_pool2d(x.flatten(0, 1), {2, 2});
  return y.view({x.size(0), x.size(1), x.size(2), y.size(2), y.size(3)});
}

namespace {

// Of each row in the mean over a batch.
at::Tensor shares(const at::Tensor& weight, const at::Tensor& count) {
  return weight / (count.defined() ? count.unsqueeze(-1) : weight.sum(-1, true)).clamp_min(1);
}

}  // namespace

LossAndGradient cross_entropy(const at::Tensor& logits, const at::Tensor& target, const at::Tensor& sample_weight,
                              const at::Tensor& count) {
  at::NoGradGuard no_grad;
  const at::Tensor log_p = at::log_softmax(logits, -1);
  const at::Tensor per_sample = (target * log_p).sum(-1, true);  // (K, B, 1), negative
  const at::Tensor share = shares(sample_weight, count);
  return {share.unsqueeze(1).bmm(per_sample).flatten().neg_(), log_p.exp().sub_(target).mul_(share.unsqueeze(-1))};
}

LossAndGradient cross_entropy_of_labels(const at::Tensor& logits, const at::Tensor& labels, const at::Tensor& weight,
                                        const at::Tensor& smoothing, const at::Tensor& count) {
  at::NoGradGuard no_grad;
  const at::Tensor log_p = at::log_softmax(logits, -1);
  const at::Tensor at_label = labels.unsqueeze(-1);
  const at::Tensor share = shares(weight, count);   // (K, R)
  at::Tensor per_row = log_p.gather(-1, at_label);  // (K, R, 1), negative
  at::Tensor gradient = log_p.exp();
  if (smoothing.defined()) {
    const double classes = static_cast<double>(logits.size(-1));
    per_row = (1 - smoothing) * per_row + smoothing * log_p.mean(-1, true);
    gradient.sub_(smoothing / classes);
    gradient.scatter_add_(-1, at_label, (smoothing - 1).expand_as(at_label));
  } else {
    gradient.scatter_add_(-1, at_label, at::full_like(per_row, -1));
  }
  return {share.unsqueeze(1).bmm(per_row).flatten().neg_(), gradient.mul_(share.unsqueeze(-1))};
}

}  // namespace tenfold::layers

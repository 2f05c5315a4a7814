#include "ttt/inner_loop_losses.h"

#include <ATen/ATen.h>

#include "ttt/per_stream.h"

namespace tenfold::inner {

LossCollector::LossCollector(const InnerModel& model, const Sizes& sizes, double eps, InnerLossRecorder& recorder,
                             int layer)
    : sizes_(sizes), eps_(eps), recorder_(recorder), layer_(layer) {
  at::NoGradGuard no_grad;
  initial_ = initial_weights(model, sizes);
  norm_weight_ = over_streams(model.norm_weight.unsqueeze(2), sizes.streams).flatten(0, 2);
  norm_bias_ = over_streams(model.norm_bias.unsqueeze(2), sizes.streams).flatten(0, 2);
}

void LossCollector::close(const at::Tensor& keys, const at::Tensor& targets, const FastWeights& before,
                          const FastWeights& after) {
  at::NoGradGuard no_grad;
  l0_.push_back(loss(initial_, keys, targets));
  lprev_.push_back(loss(before, keys, targets));
  lafter_.push_back(loss(after, keys, targets));
}

void LossCollector::hand_over(std::int64_t first_position, const at::Tensor& step_weight) {
  if (l0_.empty()) return;
  recorder_.add(layer_, at::cat(l0_, 2), at::cat(lprev_, 2), at::cat(lafter_, 2), step_weight, first_position);
}

// (K, B, l): mean over features and heads.
at::Tensor LossCollector::loss(const FastWeights& fast, const at::Tensor& keys, const at::Tensor& targets) const {
  const at::Tensor z = predict(fast, keys);
  const at::Tensor xhat = at::layer_norm(z, {z.size(-1)}, {}, {}, eps_);
  const at::Tensor error = at::addcmul(norm_bias_, xhat, norm_weight_) - targets;
  return error.square().mean(-1).view({sizes_.members, sizes_.streams, sizes_.heads, -1}).mean(2);
}

}  // namespace tenfold::inner

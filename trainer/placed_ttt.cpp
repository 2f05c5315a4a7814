#include "trainer/placed_ttt.h"

#include <ATen/ATen.h>

#include "trainer/language_layers.h"

namespace tenfold {
namespace {

constexpr double kInnerNormEps = 1e-8;
constexpr double kPostNormEps = 1e-6;

}  // namespace

InnerLoopOptions placed_ttt_options(const TttLayerSpec& spec) {
  InnerLoopOptions options;
  options.dialect = spec.dialect == "video_dit" ? InnerDialect::video_dit : InnerDialect::causal;
  options.mini_batch_size = spec.mini_batch_size;
  options.eps = kInnerNormEps;
  options.clip_norm = spec.inner_clip_norm;
  options.checkpoint_group_size = spec.checkpoint_group_size;
  return options;
}

PlacedTttResult placed_ttt(const at::Tensor& x, const PlacedTttParameters& parameters, const InnerLoopOptions& options,
                           const PlacedTttCall& call) {
  const std::int64_t heads = parameters.rate_weight.size(1);
  const auto heads_of = [&](const at::Tensor& weight) {
    return layers::split_heads(layers::project(x, weight), heads);
  };
  InnerTokens tokens;
  tokens.q = unit_length(heads_of(parameters.q_proj));
  tokens.k = unit_length(heads_of(parameters.k_proj));
  tokens.v = normalised_values(heads_of(parameters.v_proj), tokens.k, parameters.inner);
  const auto width = static_cast<double>(tokens.q.size(-1)), mini_batch = static_cast<double>(options.mini_batch_size);
  tokens.rate = token_rates(x, parameters.rate_weight, parameters.rate_bias, call.base_lr, width * mini_batch);
  tokens.step_weight = call.step_weight;
  const InnerLoopResult inner = inner_loop(parameters.inner, tokens, options, call.state, call.recorder, call.layer);
  const at::Tensor normed = layers::layer_norm(layers::join_heads(inner.output), parameters.post_norm_weight,
                                               parameters.post_norm_bias, kPostNormEps);
  return {layers::scale(layers::project(normed, parameters.o_proj), at::tanh(parameters.gate_alpha)),
          inner.clipped_share};
}

}  // namespace tenfold

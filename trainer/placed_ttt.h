#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "experiments/spec.h"
#include "ttt/inner_loop.h"

// A TTT layer placed inside a pretrained transformer, between a block's attention and its feed-forward part, behind a
// gate that opens as it is trained:
//   x <- x + tanh(alpha) * TTT(x)
// In TTT(x), queries and keys have unit length per head, targets are normalised, a token's rate is base_lr *
// sigmoid(.)/(f m) without a row coefficient, and the heads' outputs pass a layer norm and the output projection.
namespace tenfold {

// Of K members; names as in transformer_layout.h.
struct PlacedTttParameters {
  at::Tensor q_proj, k_proj, v_proj, o_proj;                // (K, D, D)
  InnerModel inner;                                         // W_0 and the inner norm
  at::Tensor rate_weight;                                   // (K, H, 1, D)
  at::Tensor rate_bias;                                     // (K, H, 1)
  at::Tensor post_norm_weight, post_norm_bias, gate_alpha;  // (K, D)
};

struct PlacedTttCall {
  at::Tensor base_lr;      // (K)
  at::Tensor step_weight;  // (K, B, T): 0 for padding; undefined: all real
  InnerState* state = nullptr;
  InnerLossRecorder* recorder = nullptr;
  int layer = 0;
};

struct PlacedTttResult {
  at::Tensor output;         // tanh(alpha) * TTT(x), (K, B, T, D)
  at::Tensor clipped_share;  // (K); undefined without inner_clip_norm
};

InnerLoopOptions placed_ttt_options(const TttLayerSpec& spec);

// x (K, B, T, D)
PlacedTttResult placed_ttt(const at::Tensor& x, const PlacedTttParameters& parameters, const InnerLoopOptions& options,
                           const PlacedTttCall& call);

}  // namespace tenfold

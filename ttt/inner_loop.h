#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace tenfold {

class InnerLossRecorder;  // ttt/inner_loss.h

// The inner loop of TTT-Linear and TTT-MLP (Sun et al. 2024, arXiv 2407.04620, sections 2.4 to 2.6): a model per head,
// trained on the tokens as they come, mini-batch by mini-batch, whose prediction for the query is the output.
//
// Sizes: K members, B streams, H heads, T tokens, f features of a head, m tokens of a mini-batch. For a token with key
// k, target Y = v - k, and W the weights at the start of its mini-batch:
//   Z = model(k; W)      y = norm_weight * xhat + norm_bias,  xhat = (Z - mean)/sqrt(var + eps)
//   loss = 1/2 sum_f (y - Y)^2,  G_j its gradient for token j, always taken at the start of the mini-batch
//   W_i = W_start - c_i * sum_{j<=i} r_j G_j            what token i of a mini-batch sees (i = 0..m-1)
//   output_i = q_i + ln(model(q_i; W_i))
// and the next mini-batch starts from W of this one's last row. Mini-batches begin at multiples of m of the *stream's*
// positions, whatever the pieces it is fed in. All of it is differentiable, through the inner updates too.
enum class InnerDialect {
  causal,     // as above
  video_dit,  // every token of a mini-batch sees the whole mini-batch, also its own future: right for m = 1 alone
};

// The model that is trained inside, one per head: the parameters W_0. Never written to.
struct InnerModel {
  // Per inner layer. Linear has one layer; an MLP has 2 to 5 with gelu (tanh form) between them.
  std::vector<at::Tensor> weights;  // (K, H, in, out)
  std::vector<at::Tensor> biases;   // (K, H, 1, out)
  at::Tensor norm_weight;           // (K, H, f)
  at::Tensor norm_bias;             // (K, H, f)
};

struct InnerLoopOptions {
  InnerDialect dialect = InnerDialect::causal;
  std::int64_t mini_batch_size = 16;
  double eps = 1e-6;                       // of the layer norm: 1e-6 as published, 1e-8 inside pretrained models
  std::optional<double> clip_norm;         // largest norm of G_j of a head, over all its weights and biases
  std::int64_t checkpoint_group_size = 0;  // mini-batches recomputed together in the backward pass; 0: none
};

struct InnerTokens {
  at::Tensor q, k, v;          // (K, B, H, T, f), any strides
  at::Tensor rate;             // (K, B, H, T) r_j
  at::Tensor row_coefficient;  // (K, m) c_i; undefined: all 1
  at::Tensor step_weight;      // (K, B, T): 0 for padding, which comes last: it updates nothing and its output is 0
};

// Where streams stand, between calls: a buffer per stream, never the parameters. Its size does not depend on the tokens
// seen. Not part of the graph: gradients end at the border of a call. A new object is a stream's beginning.
struct InnerState {
  std::vector<at::Tensor> weights, biases;         // (K, B, H, in, out), (K, B, H, 1, out): W_start
  std::vector<at::Tensor> weight_sums, bias_sums;  // sum of r_j G_j over the open mini-batch, without c
  std::int64_t position = 0;                       // tokens seen
  std::int64_t origin = 0;                         // where recorded positions begin
  at::Tensor open_tokens;                          // (K, B) real ones of the open mini-batch, where some were padding
  at::Tensor pending_keys, pending_targets;        // of the open mini-batch, while losses are recorded
  bool begun() const { return !weights.empty(); }
  std::int64_t bytes() const;
};

struct InnerLoopResult {
  at::Tensor output;         // (K, B, H, T, f), before any norm over heads
  at::Tensor clipped_share;  // (K) of the real tokens and heads; undefined without clip_norm
};

// state: null for whole streams that begin and end here (a partial mini-batch at their end is closed). With a state the
// streams go on from it and it moves on, a partial mini-batch staying open; streams of unequal length may only be
// padded in their last call. Throws Error(config) where video_dit is fed a mini-batch in pieces. recorder, layer: where
// the losses of formula figure 5 go; null: nowhere.
InnerLoopResult inner_loop(const InnerModel& model, const InnerTokens& tokens, const InnerLoopOptions& options,
                           InnerState* state = nullptr, InnerLossRecorder* recorder = nullptr, int layer = 0);

// W as the next token would find it, were the open mini-batch closed now: weights, then biases, each (K, B, H, ...).
// Empty before the first token.
std::vector<at::Tensor> current_weights(const InnerState& state, const at::Tensor& row_coefficient,
                                        const InnerLoopOptions& options);

// The end of the streams: closes the open mini-batch and records its losses.
void finish_streams(const InnerModel& model, const at::Tensor& row_coefficient, const InnerLoopOptions& options,
                    InnerState& state, InnerLossRecorder* recorder, int layer);

// |W_t - W_0| over all weights and biases of all heads, (K, B); undefined before the first token.
at::Tensor movement_norm(const InnerModel& model, const InnerState& state, const at::Tensor& row_coefficient,
                         const InnerLoopOptions& options);

// What goes into it.

// r_j = base_lr / divisor * sigmoid(theta_h . x_j + bias_h): (K, B, H, T). x (K, B, T, width), theta (K, H, 1, width),
// bias (K, H, 1), base_lr (K). divisor: f as published, f m inside pretrained models.
at::Tensor token_rates(const at::Tensor& x, const at::Tensor& theta, const at::Tensor& bias, const at::Tensor& base_lr,
                       double divisor);

// c_i = max(1/(i+1) + delta_i, 0), as published; pretrained models have no row coefficient. delta (K, m).
at::Tensor row_coefficients(const at::Tensor& delta);

// x / |x| over the last dimension: queries and keys inside pretrained models.
at::Tensor unit_length(const at::Tensor& x);

// v whose target is normalised, inside pretrained models: v' = k + norm_weight * (v - k - mean)/(std + 1e-5) +
// norm_bias, std unbiased. v, k (K, B, H, T, f).
at::Tensor normalised_values(const at::Tensor& v, const at::Tensor& k, const InnerModel& model);

// Rotary position embedding of the interleaved pairs (x_2i, x_2i+1): x (..., T, f), cosine and sine (T, f/2) of the
// angles position * base^(-2i/f).
at::Tensor rotate_pairs(const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine);

}  // namespace tenfold

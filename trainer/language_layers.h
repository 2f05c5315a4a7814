#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

// Layer functions of the language models, stacked as those of layers.h: the leading K is the members, none is mixed
// with another, and on CPU a member has the same bits whatever K is. Tokens of a batch stand as (K, B, T, ...); linear
// weights are [out, in], as published checkpoints have them.
namespace tenfold::layers {

// tokens (K, B, T) int64, weight (K, V, D) -> (K, B, T, D)
at::Tensor embed(const at::Tensor& tokens, const at::Tensor& weight);

// x (K, ..., in), weight (K, out, in) -> (K, ..., out)
at::Tensor project(const at::Tensor& x, const at::Tensor& weight);
// W + scaling B A (Hu et al. 2021): a (K, rank, in), b (K, out, rank).
at::Tensor project_lora(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& a, const at::Tensor& b,
                        double scaling);

// x / sqrt(mean of x^2 + eps) * weight over the last dimension (Zhang and Sennrich 2019): x (K, ..., F), weight (K, F).
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);
// As layer_norm of layers.h, for any number of dimensions and eps.
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps);

// x * weight: x (K, ..., F), weight (K, F).
at::Tensor scale(const at::Tensor& x, const at::Tensor& weight);

// Rotary position embedding (Su et al. 2021): cosines and sines (T, f/2) of position[t] * base^(-2 i / f), with angles
// in float64. positions (T).
struct Rotation {
  at::Tensor cosine, sine;
};
Rotation rotation(const at::Tensor& positions, std::int64_t head_width, double base, at::ScalarType type);
// x (..., T, f): turns the pairs (x_i, x_{i + f/2}), as Llama's checkpoints want it.
// (ttt/inner_loop.h turns the pairs (x_2i, x_{2i+1}).)
at::Tensor rotate_halves(const at::Tensor& x, const Rotation& rotation);

// (K, B, T, D) -> (K, B, H, T, f) and back, both contiguous.
at::Tensor split_heads(const at::Tensor& x, std::int64_t heads);
at::Tensor join_heads(const at::Tensor& x);

// softmax(q k^T / sqrt f) v, where a query sees the keys up to its own place: all (K, B, H, T, f).
at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);
// The same for k and v (K, B, H, S, f) that begin S - T places before the queries, of which each sees the last `window`
// up to its own.
at::Tensor window_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t window);

// silu(gate) * up (Shazeer 2020)
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);

}  // namespace tenfold::layers

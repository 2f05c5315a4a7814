#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "ttt/inner_loop.h"
#include "ttt/inner_loop_group.h"

// Between the shapes that models use (members, streams, heads, tokens) and those of the inner loop (models,
// mini-batches).
namespace tenfold::inner {

struct Sizes {
  std::int64_t members, streams, heads, tokens, features;
  std::int64_t models() const { return members * streams * heads; }
};

// Consecutive mini-batches of one length.
struct Segment {
  std::int64_t first, count, length;  // first token of the call; mini-batches; tokens of each
  std::int64_t offset;                // of the first token in its mini-batch
  bool closes;
};

// How `tokens` tokens from a stream's `position` on fall into mini-batches of m. streaming: the last one stays open.
std::vector<Segment> segments(std::int64_t position, std::int64_t tokens, std::int64_t m, bool streaming);

// (K, B, H, ...) -> (K B H, ...) and back, the latter detached.
FastWeights flattened(const std::vector<at::Tensor>& weights, const std::vector<at::Tensor>& biases);
std::vector<at::Tensor> unflattened(const std::vector<at::Tensor>& flat, const Sizes& sizes);

// W_0 for every stream.
FastWeights initial_weights(const InnerModel& model, const Sizes& sizes);

// (K, B, H, T, ...) -> (n, K B H, l, ...) of a segment's tokens.
at::Tensor mini_batches(const at::Tensor& x, const Segment& segment);

// (n, K B H, l, f) -> (K, B, H, n l, f)
at::Tensor in_order(const at::Tensor& x, const Sizes& sizes);

// (K, ...) -> (K B H, ...)
at::Tensor per_model(const at::Tensor& x, const Sizes& sizes);

// c of the last real token of every mini-batch, (n, N, 1, 1). real (n, K, B): tokens of it; or undefined: last_index is
// the last token's.
at::Tensor last_coefficient(const at::Tensor& row_coefficient, const at::Tensor& real, std::int64_t last_index,
                            std::int64_t count, const Sizes& sizes);

}  // namespace tenfold::inner

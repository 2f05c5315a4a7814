#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <vector>

// The inner loop over consecutive mini-batches of one length: the part of ttt/inner_loop that is computed token by
// token. N = K * B * H are the inner models, each its own; l tokens are in a mini-batch, n mini-batches follow.
namespace tenfold::inner {

// The fast weights of N models.
struct FastWeights {
  std::vector<at::Tensor> weights;  // per inner layer (N, in, out)
  std::vector<at::Tensor> biases;   // (N, 1, out)
};

struct Tokens {
  at::Tensor q, k;  // (n, N, l, f)
  at::Tensor pull;  // (n, N, l, f) norm_weight * (norm_bias - Y): the loss' gradient at xhat is pull + scale * xhat
  at::Tensor rate;  // (n, N, 1, l) r_j
  at::Tensor last_rate;     // (n, N, 1, l) c_last r_j, with which the mini-batch's gradients move the weights
  at::Tensor last_row;      // (n, N, 1, 1) c_last; only read beside sums
  at::Tensor eta;           // (n, N, l, l) c_i r_j, 0 where token i does not see token j
  at::Tensor row;           // (N, l, 1) c_i; only read beside sums
  at::Tensor weight_scale;  // (N, 1, f) norm_weight squared
};

struct Rules {
  double eps = 1e-6;
  std::optional<double> clip_norm;
  bool closes = true;  // false: the (one) mini-batch stays open, its gradients go to the sums
  bool moves = true;   // false: nobody reads the weights after the last mini-batch
};

// The mini-batch `index` moved the weights from `before` to `after`. Not called for one that stays open.
using Observer = std::function<void(std::int64_t index, const FastWeights& before, const FastWeights& after)>;

struct GroupResult {
  at::Tensor z;         // (n, N, l, f) model(q; W_i), before the norm
  FastWeights weights;  // after the last mini-batch
  FastWeights sums;     // where it stays open: of r_j G_j
  at::Tensor clipped;   // (n, N, l) 1 where a gradient was clipped; undefined without clip_norm
};

// sums: of the open mini-batch that the first one goes on with (n = 1), or empty.
GroupResult run_group(const Tokens& tokens, const FastWeights& start, const FastWeights& sums, const Rules& rules,
                      const Observer& observer);

// The same function and gradients; between forward and backward pass only the arguments are kept, and every `group`
// mini-batches are computed again together.
GroupResult run_in_groups(const Tokens& tokens, const FastWeights& start, const Rules& rules, std::int64_t group,
                          const Observer& observer);

// W - c * sums, c (N, 1, 1)
FastWeights moved(const FastWeights& fast, const FastWeights& sums, const at::Tensor& c);

// model(x; W): x (N, l, f) -> (N, l, f)
at::Tensor predict(const FastWeights& fast, const at::Tensor& x);

}  // namespace tenfold::inner

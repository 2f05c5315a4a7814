#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <vector>

#include "ttt/ttt_rnn.h"

// One inner loop of a TTT-RNN, forward and backward: a time step, or a window of steps. Rows are ordered (sequence,
// step of the window), R = B * L of them; N blocks make a sequence. Buffers of the whole sequence hold blocks first, so
// that a block's part is contiguous whatever K is (the same bits for a member in any array).
namespace tenfold::ttt_rnn_detail {

struct Shape {
  TttRnnOptions options;
  std::int64_t members, batch, steps, blocks, length, units, width;  // K, B, T, N, L, U, the encoder's hidden units
  std::int64_t rows() const { return batch * length; }
  // Sets of fast weights: one per member, or one per sequence.
  std::int64_t groups() const { return options.per_sequence ? members * batch : members; }
  at::Tensor by_group(const at::Tensor& rows) const;  // (K, R, C) -> (groups, rows of one, C)
  // As the encoder's weights are held: one per member, or, where they persist per sequence, one per group.
  at::Tensor by_encoder(const at::Tensor& rows) const;
};

// The encoder's weights that a block enters with. Biases (., 1, C).
struct Encoder {
  at::Tensor w0, b0, w1, b1;
};

// Weights of one call. Biases (K, 1, C).
struct Parameters {
  at::Tensor phi, psi;  // (K, U, U) rows of h
  Encoder encoder;
  at::Tensor g, g_bias, h, h_bias, ln_weight, ln_bias;
  at::Tensor state;  // (K, B, U) that the first block enters with
};

// What the backward pass needs of the forward pass, each (N, K, R, C) or (2, N, K, R, C); without a backward pass, N is
// 1 and the block's part is overwritten.
struct Tape {
  Tape() = default;
  Tape(const Shape& shape, bool keep, const at::TensorOptions& like);
  std::vector<at::Tensor> tensors() const;
  static Tape of(const Shape& shape, const std::vector<at::Tensor>& tensors);

  at::Tensor aq;                         // (2, ., K, R, U) a and q
  std::vector<at::Tensor> z;             // n - 1 times (., K, R, W): a W of inner steps 1 .. n-1 (mlp_2)
  at::Tensor z_last;                     // (2, ., K, R, W): a W of the last inner step, q W by E_n (mlp_2)
  at::Tensor change_before;              // (., K, R, W) what the inner steps before the last took from a W (n > 1)
  at::Tensor change;                     // (., K, R, W) and what all did
  std::vector<at::Tensor> output_rates;  // n times (., K, R, U): rate * gradient at the encoder's output (mlp_2)
  at::Tensor y;                          // (., K, R, U) enc(a; E_{n-1})
  at::Tensor decoded;                    // (., K, R, U) g(y)
  at::Tensor mean, rstd;                 // (., K, R, 1) of the norm (decoder_ln)
  at::Tensor out;                        // (., K, R, U) enc(q; E_n) + 0.1 r_n
  at::Tensor state;                      // (., K, B, U) that a block entered with
};

// Losses of one block's rows, each (N, K, R).
struct BlockLosses {
  at::Tensor l0, lprev, lafter;
  std::vector<at::Tensor> iteration;
};

// Computes block n from state (K, B, U) into h (K, R, U); aq's part holds what x gives to a and q. rates: (P, K, R, 1)
// by inner step (P = 1: all alike), 2 base_lr / (U * real rows), 0 for padding. `first` is E_0, for l0.
void forward_block(const Shape& shape, const Parameters& parameters, const Encoder& encoder, const at::Tensor& rates,
                   const at::Tensor& state, Tape& tape, std::int64_t slot, at::Tensor& h, BlockLosses* losses,
                   std::int64_t block);

// encoder -= sign * what block n's inner loop took from it; sign -1 takes it back.
void move_encoder(const Shape& shape, const Tape& tape, std::int64_t slot, Encoder& encoder, double sign);

// Gradients by block, for the sums over all of them at the end.
struct Gradients {
  Gradients(const Shape& shape, const at::TensorOptions& like);
  at::Tensor d_aq;       // (2, N, K, R, U)
  at::Tensor d_z;        // (2, N, K, R, W), of mlp_2
  at::Tensor d_y;        // (2, N, K, R, U): at enc(a; E_{n-1}) and enc(q; E_n)
  at::Tensor d_decoded;  // (N, K, R, U)
  at::Tensor d_h;        // (N, K, R, U)
};
// d_h's part holds the gradient at the block's states (0 at padding). Returns the gradient (K, B, U) at the state that
// the block entered with, but for what is held.
at::Tensor backward_block(const Shape& shape, const Parameters& parameters, const Encoder& encoder, const Tape& tape,
                          Gradients& gradients, std::int64_t block);

constexpr double kNormEps = 1e-3;
constexpr double kResidual = 0.1;  // of r_n in the state

}  // namespace tenfold::ttt_rnn_detail

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace tenfold {

// TTT-RNN (arXiv 2310.13807 in its spirit): a recurrent layer whose transition is an encoder that learns, at every time
// step, to reconstruct its input. All weights are [in, out], y = x W + b. From state h (U) and input x_t (F):
//
//   a = phi([x_t ; h])     q = psi([x_t ; h])     E_0 = encoder's weights
//   for i = 1..n:  r_i = ln(g(enc(a; E_{i-1})))     L_i = mean over the real rows of the batch, and units, of (r_i -
//   a)^2
//                  E_i = E_{i-1} - base_lr * dL_i/dE_{i-1}
//   h_t = h_layer( enc(q; E_n) + 0.1 r_n )
//
// The fast weights are never formed: all inner steps share their input a, so W_n = W - a^T (sum of gradients at a W),
// and applying W_n costs products with as many inner dimensions as the batch has rows. Inner gradients are by formula;
// the outer gradient is of first order (E_i = E_0 + constant) and given by formula as well.
struct TttRnnOptions {
  bool two_layers = true;     // encoder U -> 4U, gelu (erf), -> U (mlp_2); else U -> U (mlp_1)
  bool decoder_ln = true;     // ln (eps 1e-3) behind g; else r = g(...)
  bool per_sequence = false;  // each sequence has its own fast weights and losses; else one set per batch
  bool persistent = false;    // E_n carries over to the next time step of the pass; else every step begins at E_0
  bool reverse = false;       // from the last time step to the first
  int inner_iterations = 1;
  // Time steps of one inner loop. With 1, the step form above. With more, a window of so many steps (at multiples of
  // `window` from the sequence's first step, in either direction) is one inner loop: phi and psi of all its steps see
  // the hidden state at the window's entry; inner step i learns from all real rows of the window, or, with `use_sgd`,
  // from those of its own i-th of n equal parts in the direction of time; r_n of every step is by E_{n-1}, and every
  // state by E_n, as in the step form. The state that the next window sees is that of the last step.
  std::int64_t window = 1;
  bool use_sgd = false;
};

// One direction of a layer. Each (K, ...): member k has its own.
struct TttRnnWeights {
  at::Tensor phi, phi_bias, psi, psi_bias;  // (K, F + U, U), (K, U): rows of x first, then of h
  at::Tensor encoder0, encoder0_bias;       // (K, U, 4U), (K, 4U); of mlp_1 (K, U, U), (K, U)
  at::Tensor encoder1, encoder1_bias;       // (K, 4U, U), (K, U); undefined for mlp_1
  at::Tensor g, g_bias, h, h_bias;          // (K, U, U), (K, U)
  at::Tensor ln_weight, ln_bias;            // (K, U); undefined without decoder_ln
  at::Tensor initial_state;                 // (K, 1, U); undefined: zeros
};

// Reconstruction losses, each (K, B, T): mean over units of (r - a)^2 of one row, by the weights named. Where they are
// reset, lprev is l0. Outside of autograd.
struct TttRnnLosses {
  at::Tensor l0;                      // by E_0, the encoder's weights
  at::Tensor lprev;                   // by the weights that entered the time step (or window)
  at::Tensor lafter;                  // by those after its last inner step
  std::vector<at::Tensor> iteration;  // L_1 .. L_n, each by E_{i-1}
};

// x (K, B, T, F), base_lr (K), step_weight (K, B, T), 1 for real steps and 0 for padding, which comes last; undefined:
// all are real. Returns the states h_t (K, B, T, U). At padding the state is held, inner losses do not count it and the
// result is 0; what x holds there does not matter. losses: filled where given.
at::Tensor ttt_rnn(const at::Tensor& x, const TttRnnWeights& weights, const at::Tensor& base_lr,
                   const at::Tensor& step_weight, const TttRnnOptions& options, TttRnnLosses* losses = nullptr);

}  // namespace tenfold

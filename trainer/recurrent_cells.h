#pragma once

#include <ATen/core/Tensor.h>

// Gated recurrent layers over sequences of K members, as in torch.nn (GRU of Cho et al. 2014 in its cuDNN form; LSTM of
// Hochreiter and Schmidhuber 1997). What the input gives to the gates is one product over all steps; the recurrence has
// a backward pass of its own, whose weight gradients are one product over all steps too.
namespace tenfold::layers {

// One direction. Each (K, ...).
struct CellWeights {
  at::Tensor input, input_bias;    // (K, F, G U), (K, G U)
  at::Tensor hidden, hidden_bias;  // (K, U, G U), (K, G U)
};

// x (K, B, T, F), step_weight (K, B, T): 1 for real steps, 0 for padding, which comes last; undefined: all are real.
// Returns the states (K, B, T, U) from zeros; at padding the state is held and the result is 0.
//   gru (G = 3: r, z, n):  r, z = sigmoid(x W + b + h V + c)   n = tanh(x W_n + b_n + r (h V_n + c_n))
//                          h <- (1 - z) n + z h
at::Tensor gru(const at::Tensor& x, const CellWeights& weights, const at::Tensor& step_weight, bool reverse);
//   lstm (G = 4: i, f, g, o):  i, f, o = sigmoid(x W + b + h V + c)   g = tanh(...)   c <- f c + i g   h <- o tanh(c)
at::Tensor lstm(const at::Tensor& x, const CellWeights& weights, const at::Tensor& step_weight, bool reverse);

}  // namespace tenfold::layers

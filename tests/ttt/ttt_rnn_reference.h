#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "ttt/ttt_rnn.h"

// The TTT-RNN as its formulas read: fast weights formed, one member, one set of fast weights and one time step at a
// time, inner gradients by autograd. Slow, and sharing nothing with the layer.
namespace tenfold::testing {

// Inputs of a layer, float64, K members.
struct Example {
  at::Tensor x, base_lr, step_weight;
  std::vector<std::string> names;  // of the leaves
  std::vector<at::Tensor> leaves;  // x and all weights, in TttRnnWeights' order; undefined ones left out
  at::Tensor upstream;             // (K, B, T, U) gradient at the states
  TttRnnWeights weights() const;   // of the leaves
  bool two_layers = true, decoder_ln = true;
};

Example make_example(const TttRnnOptions& options, bool masked, std::int64_t members, std::int64_t batch = 4,
                     std::int64_t steps = 7, std::int64_t features = 3, std::int64_t units = 5);

struct Outcome {
  at::Tensor states;
  TttRnnLosses losses;
  std::vector<at::Tensor> gradients;  // of the example's leaves
};
Outcome run_layer(const Example& example, const TttRnnOptions& options);
Outcome run_reference(const Example& example, const TttRnnOptions& options);

// Largest difference relative to the largest expected value.
double relative_error(const at::Tensor& got, const at::Tensor& expected);

}  // namespace tenfold::testing

#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "tests/trainer/tensors.h"
#include "ttt/inner_loop.h"

namespace tenfold::testing {

// A random inner loop of small sizes.
struct InnerSample {
  std::int64_t members = 2, streams = 3, heads = 2, tokens = 11, features = 4;
  int layers = 2;  // of the inner model; 1 is linear
  InnerLoopOptions options = {};
  bool rows = true;  // with row coefficients
  at::ScalarType type = at::kDouble;

  InnerModel model;
  InnerTokens in;

  void fill(std::uint64_t site = 1) {
    const auto random = [&](std::vector<std::int64_t> shape, double scale) {
      return (normal(shape, site++) * scale).to(type);
    };
    model = {};
    for (int i = 0; i < layers; ++i) {
      const std::int64_t from = i == 0 ? features : 4 * features, to = i + 1 == layers ? features : 4 * features;
      model.weights.push_back(random({members, heads, from, to}, 0.3));
      model.biases.push_back(random({members, heads, 1, to}, 0.1));
    }
    model.norm_weight = random({members, heads, features}, 0.2) + 1;
    model.norm_bias = random({members, heads, features}, 0.2);
    const std::vector<std::int64_t> shape{members, streams, heads, tokens, features};
    in = {};
    in.q = random(shape, 1);
    in.k = random(shape, 1);
    in.v = random(shape, 1);
    // Without row coefficients, rates are divided by the mini-batch.
    in.rate = at::sigmoid(random({members, streams, heads, tokens}, 1)) * (rows ? 0.2 : 0.04);
    if (rows) in.row_coefficient = row_coefficients(random({members, options.mini_batch_size}, 0.05));
  }

  // All that the result may depend on, in one order.
  std::vector<at::Tensor> arguments() const {
    std::vector<at::Tensor> all{in.q, in.k, in.v, in.rate, model.norm_weight, model.norm_bias};
    if (in.row_coefficient.defined()) all.push_back(in.row_coefficient);
    all.insert(all.end(), model.weights.begin(), model.weights.end());
    all.insert(all.end(), model.biases.begin(), model.biases.end());
    return all;
  }

  void require_gradients() {
    for (at::Tensor& argument : arguments()) argument.requires_grad_();
  }

  // The tokens [first, first + count) alone.
  InnerTokens piece(std::int64_t first, std::int64_t count) const {
    InnerTokens part = in;
    for (at::Tensor* x : {&part.q, &part.k, &part.v, &part.rate}) *x = x->narrow(3, first, count);
    if (in.step_weight.defined()) part.step_weight = in.step_weight.narrow(2, first, count);
    return part;
  }
};

}  // namespace tenfold::testing

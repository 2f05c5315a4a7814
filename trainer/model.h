#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "experiments/spec.h"
#include "trainer/compute.h"
#include "trainer/model_layout.h"

namespace tenfold {

// The dropout masks of the current step, made where they are asked for and kept in one buffer per site.
class DropoutMasks {
 public:
  DropoutMasks(const Compute& compute, DropoutTables tables) : compute_(compute), tables_(std::move(tables)) {}
  DropoutTables& tables() { return tables_; }
  // (K, batch, units) for the layer called `site`
  at::Tensor mask(int site, std::int64_t batch, std::int64_t units, const StepCounter& counter);
  bool any() const;  // whether any member drops anything

 private:
  const Compute& compute_;
  DropoutTables tables_;
  std::vector<at::Tensor> buffers_;  // by site
};

// How a forward pass runs.
struct ForwardMode {
  DropoutMasks* dropout = nullptr;       // null: no dropout
  const StepCounter* counter = nullptr;  // of the masks
  bool batch_statistics = false;         // batch norm by the batch, running statistics moved by `momentum`
  at::Tensor sample_weight;              // (K, B): 0 for padding
  at::Tensor momentum;                   // (K)
};

// Parameters and buffers of K members, each (K, ...), in the layout's order.
struct ModelState {
  std::vector<at::Tensor> parameters;
  std::vector<at::Tensor> buffers;
};

// A model as a function of its parameters: nothing is kept between calls but what the layout says.
class Model {
 public:
  Model(ModelSpec spec, std::vector<std::int64_t> sample_shape, int classes, bool deterministic);
  const ModelLayout& layout() const { return layout_; }
  const ModelSpec& spec() const { return spec_; }
  // x (K, B, features) -> logits (K, B, classes)
  at::Tensor forward(ModelState& state, const at::Tensor& x, const ForwardMode& mode) const;

 private:
  at::Tensor normalise(ModelState& state, std::size_t& parameter, std::size_t& buffer, const at::Tensor& x,
                       const ForwardMode& mode) const;
  ModelSpec spec_;
  std::vector<std::int64_t> sample_shape_;
  bool deterministic_;
  ModelLayout layout_;
};

// Initial values of one member, as (1, ...) float tensors on the CPU: weights and biases uniform in +-1/sqrt(fan_in)
// (Kaiming with a = sqrt 5, as torch.nn.Linear), norms 1 and 0. Keyed by (seed, repeat, fold, parameter name, flat
// index), so equal names and shapes begin equal in every configuration.
ModelState initial_state(const ModelLayout& layout, std::uint64_t seed, int repeat, int fold);

}  // namespace tenfold

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/spec.h"

// Names, shapes, layers and roles of a model's parameters, without LibTorch: `tenfold plan`, `last:N`,
// parameter counts, memory estimates and the trainer's allocation all come from here.
namespace tenfold {

enum class ParameterRole { weight, bias, norm_weight, norm_bias };

struct ParameterInfo {
  std::string name;                 // "layers.0.linear.weight"
  std::vector<std::int64_t> shape;  // of one member; linear weights are [in, out]
  int layer;                        // 0 .. layers-1; the classifier head is the last layer
  ParameterRole role;
  std::int64_t fan_in;              // inputs of one output unit; 0 for norms
  std::int64_t size() const;
};

// State that is not trained: running statistics of a batch norm.
struct BufferInfo {
  std::string name;
  std::vector<std::int64_t> shape;
  float initial_value;
};

struct ModelLayout {
  std::vector<ParameterInfo> parameters;
  std::vector<BufferInfo> buffers;
  int layers = 0;
  std::int64_t parameter_count() const;
};

// sample_shape: (features), or (channels, height, width); an mlp flattens, a cnn wants the latter. Throws
// Error(config) where the model cannot take the samples.
ModelLayout model_layout(const ModelSpec& spec, const std::vector<std::int64_t>& sample_shape, int classes);

// Which parameters adapt. Each pattern adds some: all; norm (weights and biases of norm layers); last:N and
// first:N (layers); body (all layers but the head); layers:[i, j] (negative from the end); anything else is a
// name pattern with * and ?. Throws Error(config) for a pattern that selects nothing.
std::vector<bool> select_parameters(const ModelLayout& layout, const std::vector<std::string>& patterns);

std::int64_t selected_count(const ModelLayout& layout, const std::vector<bool>& selected);

}  // namespace tenfold

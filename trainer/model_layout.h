#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/records.h"
#include "experiments/spec.h"

// Names, shapes, layers and roles of a model's parameters, without LibTorch: `tenfold plan`, `last:N`,
// parameter counts, memory estimates and the trainer's allocation all come from here.
namespace tenfold {

enum class ParameterRole { weight, bias, norm_weight, norm_bias };

// What a parameter begins as.
struct InitialValue {
  enum class Kind {
    fan_in,    // uniform in +-1/sqrt(fan_in): Kaiming with a = sqrt 5, as torch.nn.Linear
    normal,    // mean 0, standard deviation `value`
    constant,  // `value`
  };
  Kind kind = Kind::fan_in;
  double value = 0;
};

struct ParameterInfo {
  std::string name;                 // "layers.0.linear.weight"
  std::vector<std::int64_t> shape;  // of one member; linear weights are [in, out]
  int layer;                        // 0 .. layers-1; the classifier head is the last layer
  ParameterRole role;
  std::int64_t fan_in;  // inputs of one output unit; 0 for norms
  InitialValue initial = {};
  ParameterGroup group = ParameterGroup::base;
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

// Parameters, in this order: for every hidden linear layer i `layers.<i>.linear.weight` [in, out] and `.bias` [out];
// for every convolution `layers.<i>.conv.weight` [out, in, k, k] and `.bias` [out]; each followed, unless norm is none,
// by `layers.<i>.norm.weight` and `.norm.bias` [out] (and buffers `layers.<i>.norm.running_mean`, `.running_var` [out]
// where norm is batch); at last `head.weight` [in, classes] and `head.bias` [classes]. A cnn is its convolutions
// ("same" padding, norm, activation, 2x2 max pool as long as height and width are at least 2), flattened, then an mlp.
// Its `layer` norm is over (channels, height, width) of one sample, with one weight and bias per channel.
// sample_shape: (features), or (channels, height, width); an mlp flattens, a cnn wants the latter; of sequences the
// shape of one step, of tokens (1), where classes is the vocabulary. The other kinds' names are in recurrent_layout.h
// and language_layout.h. Throws Error(config) where the model cannot take the samples.
ModelLayout model_layout(const ModelSpec& spec, const std::vector<std::int64_t>& sample_shape, int classes);

// One convolution of a cnn and the pool behind it. Height and width are those of the convolution's input and output.
struct ConvolutionInfo {
  int in_channels, out_channels, kernel_size;
  std::int64_t height, width;
  bool pooled;  // 2x2 max pool, stride 2, an odd last row or column left out
  std::int64_t out_height, out_width;
};
std::vector<ConvolutionInfo> convolutions(const ModelSpec& spec, const std::vector<std::int64_t>& sample_shape);

// Widths around the linear layers: inputs of the first one (flattened), spec.hidden, classes.
std::vector<std::int64_t> linear_widths(const ModelSpec& spec, const std::vector<std::int64_t>& sample_shape,
                                        int classes);

// Which parameters adapt, or train. Each pattern adds some: all; norm (weights and biases of norm layers); ttt, gate,
// lora, base (groups); last:N and first:N (layers); body (all layers but the head); layers:[i, j] (negative from the
// end); anything else is a name pattern with * and ?. Throws Error(config) for a pattern that selects nothing or a
// layer not there.
// key: which key of the experiment an error is about.
std::vector<bool> select_parameters(const ModelLayout& layout, const std::vector<std::string>& patterns,
                                    const std::string& key = "ttt.parameters");

std::int64_t selected_count(const ModelLayout& layout, const std::vector<bool>& selected);  // values, not tensors

}  // namespace tenfold

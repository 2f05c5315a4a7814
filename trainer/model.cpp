#include "trainer/model.h"

#include <ATen/ATen.h>

#include <cmath>

#include "trainer/layers.h"

namespace tenfold {

at::Tensor DropoutMasks::mask(int site, std::int64_t batch, std::int64_t units, const StepCounter& counter) {
  const auto index = static_cast<std::size_t>(site);
  if (buffers_.size() <= index) buffers_.resize(index + 1);
  at::Tensor& buffer = buffers_[index];
  const auto members = static_cast<std::int64_t>(tables_.keys.size());
  if (!buffer.defined() || buffer.size(1) != batch)
    buffer = at::empty({members, batch, units}, at::TensorOptions(at::kFloat).device(compute_.device()));
  compute_.dropout_mask(buffer, tables_, counter, static_cast<std::uint32_t>(site));
  return buffer;
}

bool DropoutMasks::any() const {
  for (const float p : tables_.probability)
    if (p > 0) return true;
  return false;
}

Model::Model(ModelSpec spec, std::vector<std::int64_t> sample_shape, int classes, bool deterministic)
    : spec_(std::move(spec)),
      sample_shape_(std::move(sample_shape)),
      deterministic_(deterministic),
      layout_(model_layout(spec_, sample_shape_, classes)) {}

at::Tensor Model::normalise(ModelState& state, std::size_t& parameter, std::size_t& buffer, const at::Tensor& x,
                            const ForwardMode& mode) const {
  if (spec_.norm == "none") return x;
  const at::Tensor& weight = state.parameters[parameter++];
  const at::Tensor& bias = state.parameters[parameter++];
  if (spec_.norm == "layer")
    return x.dim() == 3 ? layers::layer_norm(x, weight, bias) : layers::layer_norm_image(x, weight, bias);
  layers::BatchNormState running{state.buffers[buffer], state.buffers[buffer + 1]};
  buffer += 2;
  return layers::batch_norm(x, weight, bias, running, mode.sample_weight, mode.batch_statistics, mode.momentum);
}

at::Tensor Model::forward(ModelState& state, const at::Tensor& samples, const ForwardMode& mode) const {
  std::size_t parameter = 0, buffer = 0;
  const auto next = [&]() -> const at::Tensor& { return state.parameters[parameter++]; };
  const std::int64_t members = samples.size(0), batch = samples.size(1);
  at::Tensor x = samples;
  if (spec_.kind == "cnn") {
    x = x.view({members, batch, sample_shape_[0], sample_shape_[1], sample_shape_[2]});
    for (std::size_t i = 0; i < spec_.channels.size(); ++i) {
      const at::Tensor& weight = next();
      x = layers::conv2d(x, weight, next(), deterministic_);
      x = layers::activation(normalise(state, parameter, buffer, x, mode), spec_.activation);
      if (x.size(3) >= 2 && x.size(4) >= 2) x = layers::max_pool2(x);
    }
    x = x.flatten(2);
  }
  for (std::size_t i = 0; i < spec_.hidden.size(); ++i) {
    const at::Tensor& weight = next();
    const at::Tensor& bias = next();
    at::Tensor mask;
    if (mode.dropout != nullptr && mode.dropout->any())
      mask = mode.dropout->mask(static_cast<int>(i), batch, weight.size(2), *mode.counter);
    if (x.is_cpu() && spec_.norm == "layer" && spec_.activation == "relu") {
      const at::Tensor& norm_weight = next();
      x = layers::hidden_layer(x, weight, bias, norm_weight, next(), mask);
      continue;
    }
    x = layers::linear(x, weight, bias);
    x = layers::activation(normalise(state, parameter, buffer, x, mode), spec_.activation);
    if (mask.defined()) x = x * mask;
  }
  const at::Tensor& weight = next();
  return layers::linear(x, weight, next());
}

ModelState initial_state(const ModelLayout& layout, std::uint64_t seed, int repeat, int fold) {
  ModelState state;
  const auto with_member = [](const std::vector<std::int64_t>& shape) {
    std::vector<std::int64_t> stacked{1};
    stacked.insert(stacked.end(), shape.begin(), shape.end());
    return stacked;
  };
  for (const ParameterInfo& parameter : layout.parameters) {
    at::Tensor value = at::empty(with_member(parameter.shape), at::kFloat);
    const std::span<float> data(value.mutable_data_ptr<float>(), static_cast<std::size_t>(value.numel()));
    if (parameter.role == ParameterRole::norm_weight) {
      value.fill_(1);
    } else if (parameter.role == ParameterRole::norm_bias) {
      value.fill_(0);
    } else {
      fill_uniform(RandomStream(seed, Purpose::initial_values, repeat, fold, site_of(parameter.name)), data);
      const auto bound = static_cast<float>(1 / std::sqrt(static_cast<double>(parameter.fan_in)));
      for (float& number : data) number = (2 * number - 1) * bound;
    }
    state.parameters.push_back(value);
  }
  for (const BufferInfo& buffer : layout.buffers)
    state.buffers.push_back(at::full(with_member(buffer.shape), buffer.initial_value, at::kFloat));
  return state;
}

}  // namespace tenfold

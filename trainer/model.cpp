#include "trainer/model.h"

#include <ATen/ATen.h>

#include <cmath>

namespace tenfold {

at::Tensor DropoutMasks::mask(int site, std::int64_t batch, std::int64_t units, const StepCounter& counter) {
  at::Tensor& buffer = buffers_[{site, batch, units}];
  const auto members = static_cast<std::int64_t>(tables_.keys.size());
  if (!buffer.defined())
    buffer = at::empty({members, batch, units}, at::TensorOptions(at::kFloat).device(compute_.device()));
  compute_.dropout_mask(buffer, tables_, counter, static_cast<std::uint32_t>(site));
  return buffer;
}

bool DropoutMasks::any() const {
  for (const float p : tables_.probability)
    if (p > 0) return true;
  return false;
}

std::unique_ptr<Model> make_model(const ModelSpec& spec, const ModelData& data, bool deterministic) {
  if (spec.kind == "ttt_rnn" || spec.kind == "gru" || spec.kind == "lstm") return make_recurrent_model(spec, data);
  if (spec.kind == "ttt_lm") return make_ttt_lm(spec, data);
  if (spec.kind == "transformer_lm") return make_transformer_lm(spec, data);
  return make_classifier_model(spec, data, deterministic);
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
    const RandomStream stream(seed, Purpose::initial_values, repeat, fold, site_of(parameter.name));
    const InitialValue& initial = parameter.initial;
    switch (initial.kind) {
      case InitialValue::Kind::fan_in: {
        fill_uniform(stream, data);
        const auto bound = static_cast<float>(1 / std::sqrt(static_cast<double>(parameter.fan_in)));
        for (float& number : data) number = (2 * number - 1) * bound;
        break;
      }
      case InitialValue::Kind::normal: {
        fill_normal(stream, data);
        for (float& number : data) number *= static_cast<float>(initial.value);
        break;
      }
      case InitialValue::Kind::constant:
        value.fill_(initial.value);
        break;
    }
    state.parameters.push_back(value);
  }
  for (const BufferInfo& buffer : layout.buffers)
    state.buffers.push_back(at::full(with_member(buffer.shape), buffer.initial_value, at::kFloat));
  return state;
}

}  // namespace tenfold

#include "runner/member_cost.h"

#include <algorithm>
#include <set>

namespace tenfold {
namespace {

constexpr double kUpdateCost = 5e5;  // small models are bound by this

int ttt_layers(const ModelLayout& layout) {
  std::set<int> layers;
  for (const ParameterInfo& parameter : layout.parameters)
    if (parameter.group == ParameterGroup::ttt) layers.insert(parameter.layer);
  return static_cast<int>(layers.size());
}

// Values that a step of a sequence leaves behind: until the backward pass, or, in evaluation, until the next layer.
double values_per_step(const ExperimentSpec& spec, const DatasetSummary& data, const ModelLayout& layout,
                       bool backward) {
  const ModelSpec& model = spec.model;
  const double units = model.units, width = model.width, layers = backward ? model.layers : 1;
  const double longest = static_cast<double>(data.longest), logits = 3.0 * data.classes;
  // Inputs and outputs of both encoders and the gates' sums, for each layer and direction.
  if (data.kind == SampleKind::sequence)
    return layers * (model.kind == "ttt_rnn" ? 30 : 12) * units * (model.bidirectional ? 2 : 1) + logits;
  const double feed_forward = model.feed_forward > 0 ? model.feed_forward : 8.0 / 3.0 * width;
  const double attention = model.kind == "transformer_lm" ? 3 * model.heads * longest : 0;
  // An inner model's weights are kept at every mini-batch, its hidden layer at every token.
  const double head = width / model.heads;
  const bool linear = model.ttt.kind == "linear";
  const double inner_width = linear ? head : 4 * head;
  const double inner =
      model.heads * (3 * head * inner_width * (linear ? 1 : 2) / model.ttt.mini_batch_size + 12 * inner_width);
  const double inner_layers = backward ? ttt_layers(layout) : std::min(1, ttt_layers(layout));
  return layers * (20 * width + 4 * feed_forward + attention) + inner_layers * inner + logits;
}

}  // namespace

double member_bytes(const ExperimentSpec& spec, const DatasetSummary& data, const ModelLayout& layout,
                    std::int64_t batch, bool backward) {
  const double parameters = 6.0 * static_cast<double>(layout.parameter_count());
  const auto samples = static_cast<double>(batch);
  double sample = 1;
  for (const std::int64_t extent : data.sample_shape) sample *= static_cast<double>(extent);
  if (data.kind != SampleKind::fixed)
    return 4 * (parameters +
                samples * static_cast<double>(data.longest) * (sample + values_per_step(spec, data, layout, backward)));
  // A layer's width is the size of its bias; convolutions have it at every pixel.
  double pixels = 1, width = 0;
  if (spec.model.kind == "cnn" && data.sample_shape.size() == 3)
    pixels = static_cast<double>(data.sample_shape[1] * data.sample_shape[2]);
  for (const ParameterInfo& parameter : layout.parameters)
    if (parameter.shape.size() == 1) width += static_cast<double>(parameter.size());
  return 4 * (parameters + samples * (sample + 6 * width * pixels));
}

double trial_bytes(const ExperimentSpec& spec, const DatasetSummary& data, const ModelLayout& layout) {
  return std::max(member_bytes(spec, data, layout, spec.ttt.batch_size.value_or(1), spec.ttt.method != "source"),
                  member_bytes(spec, data, layout, evaluation_batch(spec, data), data.kind == SampleKind::fixed));
}

double update_cost(const DatasetSummary& data, const ModelLayout& layout, std::int64_t batch) {
  const double steps =
      data.kind == SampleKind::fixed
          ? 1
          : static_cast<double>(data.steps) / static_cast<double>(std::max<std::int64_t>(1, data.samples));
  const bool recurrent = data.kind == SampleKind::sequence;
  return static_cast<double>(layout.parameter_count()) * static_cast<double>(batch) * steps +
         kUpdateCost * (recurrent ? steps : 1);
}

std::int64_t evaluation_batch(const ExperimentSpec& spec, const DatasetSummary& data) {
  if (data.kind == SampleKind::fixed) return 512;
  return std::max<std::int64_t>(spec.train.batch_size, 8192 / std::max<std::int64_t>(1, data.longest));
}

}  // namespace tenfold

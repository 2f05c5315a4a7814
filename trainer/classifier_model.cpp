#include <ATen/ATen.h>

#include "experiments/error.h"
#include "trainer/layers.h"
#include "trainer/model.h"

namespace tenfold {
namespace {

// mlp and cnn.
class ClassifierModel final : public Model {
 public:
  ClassifierModel(const ModelSpec& spec, const ModelData& data, bool deterministic)
      : Model(spec, data, model_layout(spec, data.sample_shape, data.classes)), deterministic_(deterministic) {}
  at::Tensor forward(ModelState& state, const Batch& batch, const ForwardMode& mode) const override;

 private:
  at::Tensor normalise(ModelState& state, std::size_t& parameter, std::size_t& buffer, const at::Tensor& x,
                       const ForwardMode& mode) const;
  bool deterministic_;
};

at::Tensor ClassifierModel::normalise(ModelState& state, std::size_t& parameter, std::size_t& buffer,
                                      const at::Tensor& x, const ForwardMode& mode) const {
  if (spec().norm == "none") return x;
  const at::Tensor& weight = state.parameters[parameter++];
  const at::Tensor& bias = state.parameters[parameter++];
  if (spec().norm == "layer")
    return x.dim() == 3 ? layers::layer_norm(x, weight, bias) : layers::layer_norm_image(x, weight, bias);
  layers::BatchNormState running{state.buffers[buffer], state.buffers[buffer + 1]};
  buffer += 2;
  return layers::batch_norm(x, weight, bias, running, mode.sample_weight, mode.batch_statistics, mode.momentum,
                            mode.group);
}

at::Tensor ClassifierModel::forward(ModelState& state, const Batch& input, const ForwardMode& mode) const {
  std::size_t parameter = 0, buffer = 0;
  const auto next = [&]() -> const at::Tensor& { return state.parameters[parameter++]; };
  const std::int64_t members = input.x.size(0), batch = input.x.size(1);
  at::Tensor x = input.x;
  if (spec().kind == "cnn") {
    const std::vector<std::int64_t>& shape = data().sample_shape;
    x = x.view({members, batch, shape[0], shape[1], shape[2]});
    for (std::size_t i = 0; i < spec().channels.size(); ++i) {
      const at::Tensor& weight = next();
      x = layers::conv2d(x, weight, next(), deterministic_);
      x = layers::activation(normalise(state, parameter, buffer, x, mode), spec().activation);
      if (x.size(3) >= 2 && x.size(4) >= 2) x = layers::max_pool2(x);
    }
    x = x.flatten(2);
  }
  for (std::size_t i = 0; i < spec().hidden.size(); ++i) {
    const at::Tensor& weight = next();
    const at::Tensor& bias = next();
    at::Tensor mask;
    if (mode.dropout != nullptr && mode.dropout->any())
      mask = mode.dropout->mask(static_cast<int>(i), batch, weight.size(2), *mode.counter);
    if (x.is_cpu() && spec().norm == "layer" && spec().activation == "relu") {
      const at::Tensor& norm_weight = next();
      x = layers::hidden_layer(x, weight, bias, norm_weight, next(), mask);
      continue;
    }
    x = layers::linear(x, weight, bias);
    x = layers::activation(normalise(state, parameter, buffer, x, mode), spec().activation);
    if (mask.defined()) x = x * mask;
  }
  const at::Tensor& weight = next();
  return layers::linear(x, weight, next());
}

}  // namespace

std::unique_ptr<Model> make_classifier_model(const ModelSpec& spec, const ModelData& data, bool deterministic) {
  if (data.kind != SampleKind::fixed)
    throw Error(ErrorKind::config,
                "model.kind: " + spec.kind + " takes samples of one shape, and these are " +
                    std::string(data.kind == SampleKind::tokens ? "tokens" : "sequences") + "; use " +
                    (data.kind == SampleKind::tokens ? "ttt_lm or transformer_lm" : "ttt_rnn, gru or lstm"));
  return std::make_unique<ClassifierModel>(spec, data, deterministic);
}

}  // namespace tenfold

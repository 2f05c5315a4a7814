#include <ATen/ATen.h>

#include "experiments/error.h"
#include "experiments/method_defaults.h"
#include "trainer/layers.h"
#include "trainer/model.h"
#include "trainer/recurrent_cells.h"
#include "ttt/inner_loss.h"
#include "ttt/ttt_rnn.h"

namespace tenfold {
namespace {

// ttt_rnn, gru, lstm: a stack of layers, uni- or bidirectional, and a linear readout of every step, or of the mean over
// a sequence's real steps. Dropout follows every layer; in front of a readout of the mean it is applied to the mean.
class RecurrentModel final : public Model {
 public:
  RecurrentModel(const ModelSpec& spec, const ModelData& data)
      : Model(spec, data, model_layout(spec, data.sample_shape, data.classes)) {}
  at::Tensor forward(ModelState& state, const Batch& batch, const ForwardMode& mode) const override;
  bool mixes_samples() const override { return spec().kind == "ttt_rnn" && spec().ttt.inner == "per_batch"; }

 private:
  using Parameters = std::vector<at::Tensor>::const_iterator;
  at::Tensor direction(Parameters& next, int layer, const at::Tensor& x, const at::Tensor& step_weight,
                       const ForwardMode& mode, bool reverse) const;
  at::Tensor ttt_direction(Parameters& next, int layer, const at::Tensor& x, const at::Tensor& step_weight,
                           const ForwardMode& mode, bool reverse) const;
};

at::Tensor RecurrentModel::direction(Parameters& next, int layer, const at::Tensor& x, const at::Tensor& step_weight,
                                     const ForwardMode& mode, bool reverse) const {
  if (spec().kind == "ttt_rnn") return ttt_direction(next, layer, x, step_weight, mode, reverse);
  layers::CellWeights weights;
  for (at::Tensor* weight : {&weights.input, &weights.input_bias, &weights.hidden, &weights.hidden_bias})
    *weight = *next++;
  return spec().kind == "gru" ? layers::gru(x, weights, step_weight, reverse)
                              : layers::lstm(x, weights, step_weight, reverse);
}

at::Tensor RecurrentModel::ttt_direction(Parameters& next, int layer, const at::Tensor& x,
                                         const at::Tensor& step_weight, const ForwardMode& mode, bool reverse) const {
  const TttLayerSpec& ttt = spec().ttt;
  TttRnnOptions options;
  options.two_layers = ttt.encoder == "mlp_2";
  options.decoder_ln = ttt.decoder_ln;
  options.per_sequence = ttt.inner == "per_sequence";
  options.persistent = ttt.persistent;
  options.reverse = reverse;
  options.inner_iterations = ttt.inner_iterations;
  if (ttt.inner_window == "window") {
    options.window = ttt.sequence_length;
    options.use_sgd = ttt.use_sgd;
  }
  TttRnnWeights weights;
  const auto take = [&next](std::initializer_list<at::Tensor*> into) {
    for (at::Tensor* weight : into) *weight = *next++;
  };
  if (layer == 0) take({&weights.initial_state});
  take({&weights.phi, &weights.phi_bias, &weights.psi, &weights.psi_bias});
  take({&weights.encoder0, &weights.encoder0_bias});
  if (options.two_layers) take({&weights.encoder1, &weights.encoder1_bias});
  take({&weights.g, &weights.g_bias, &weights.h, &weights.h_bias});
  if (options.decoder_ln) take({&weights.ln_weight, &weights.ln_bias});

  const at::Tensor rate = mode.base_lr.defined()
                              ? mode.base_lr
                              : at::full({x.size(0)}, ttt.base_lr.value_or(default_inner_rate(spec())), x.options());
  // Of two directions the forward one is recorded: its positions are those of the stream.
  const bool record = mode.inner_losses != nullptr && !reverse && mode.inner_losses->wants(layer);
  TttRnnLosses losses;
  const at::Tensor states = ttt_rnn(x, weights, rate, step_weight, options, record ? &losses : nullptr);
  if (record) mode.inner_losses->add(layer, losses.l0, losses.lprev, losses.lafter, step_weight);
  return states;
}

at::Tensor RecurrentModel::forward(ModelState& state, const Batch& batch, const ForwardMode& mode) const {
  const std::int64_t members = batch.x.size(0), size = batch.x.size(1), steps = batch.x.size(2);
  at::Tensor step_weight = batch.step_weight;
  if (mode.sample_weight.defined()) {
    const at::Tensor rows = mode.sample_weight.unsqueeze(-1);
    step_weight = step_weight.defined() ? step_weight * rows : rows.expand({members, size, steps});
  }
  const auto drop = [&](const at::Tensor& x, int site) {
    if (mode.dropout == nullptr || !mode.dropout->any()) return x;
    const at::Tensor mask = mode.dropout->mask(site, size, x[0][0].numel(), *mode.counter);
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape[0] = mask.size(0);
    return x * mask.view(shape);
  };
  const bool by_step = data().label_kind == LabelKind::step;
  Parameters next = state.parameters.cbegin();
  at::Tensor x = batch.x;
  for (int layer = 0; layer < spec().layers; ++layer) {
    const at::Tensor forwards = direction(next, layer, x, step_weight, mode, false);
    x = spec().bidirectional ? at::cat({forwards, direction(next, layer, x, step_weight, mode, true)}, -1) : forwards;
    if (by_step || layer + 1 < spec().layers) x = drop(x, layer);
  }
  if (by_step) {
    x = x.reshape({members, size * steps, x.size(-1)});
  } else {
    // A product: the order of a sum over steps would depend on K.
    at::Tensor share =
        step_weight.defined() ? step_weight.to(x.scalar_type()) : at::ones({members, size, steps}, x.options());
    share = (share / share.sum(-1, true).clamp_min(1)).view({members * size, 1, steps});
    x = share.bmm(x.reshape({members * size, steps, x.size(-1)})).view({members, size, x.size(-1)});
    x = drop(x, spec().layers - 1);
  }
  const at::Tensor& weight = *next++;
  return layers::linear(x, weight, *next);
}

}  // namespace

std::unique_ptr<Model> make_recurrent_model(const ModelSpec& spec, const ModelData& data) {
  if (data.kind != SampleKind::sequence)
    throw Error(ErrorKind::config, "model.kind: " + spec.kind +
                                       " takes sequences of time steps, and these samples are " +
                                       (data.kind == SampleKind::tokens ? "tokens; use ttt_lm or transformer_lm"
                                                                        : "of one fixed shape; use mlp or cnn"));
  if (data.label_kind == LabelKind::next_token)
    throw Error(ErrorKind::config,
                "model.kind: " + spec.kind +
                    " labels sequences or their steps; to predict tokens use ttt_lm or transformer_lm");
  return std::make_unique<RecurrentModel>(spec, data);
}

}  // namespace tenfold

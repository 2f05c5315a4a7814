#include "trainer/inner_stream.h"

#include <ATen/ATen.h>

#include "experiments/error.h"

namespace tenfold {

at::Tensor InnerStream::feed(const at::Tensor& tokens) {
  at::NoGradGuard no_grad;
  if (finished_) throw Error(ErrorKind::internal, "a language stream was fed after its end");
  if (!options_.carry) {
    close();
    for (const int layer : layers())
      if (InnerBlock* kept = block(layer)) {
        kept->inner = InnerState{};
        kept->inner.origin = position_;
      }
  }
  batch_ = tokens.size(1);
  if (options_.measure_carry && position_ > 0)
    for (const int layer : layers()) carry_.enter(layer, weights(layer));
  at::Tensor out = read(tokens);
  if (options_.measure_carry)
    for (const int layer : layers()) carry_.leave(layer, weights(layer));
  return out;
}

void InnerStream::finish() {
  at::NoGradGuard no_grad;
  close();
  finished_ = true;
}

std::vector<LanguageStream::TttLayer> InnerStream::ttt_layers() const {
  at::NoGradGuard no_grad;
  std::vector<TttLayer> result;
  for (const int index : layers()) {
    const InnerModel inner = inner_model(index);
    const std::int64_t members = inner.weights[0].size(0);
    TttLayer layer;
    layer.layer = index;
    if (const at::Tensor alpha = gate_alpha(index); alpha.defined())
      layer.mean_tanh_gate = at::tanh(alpha).abs().mean(-1);
    at::Tensor squares = at::zeros({members}, inner.weights[0].options());
    for (const auto* tensors : {&inner.weights, &inner.biases})
      for (const at::Tensor& tensor : *tensors) squares += tensor.square().flatten(1).sum(-1);
    layer.norm = squares.sqrt();
    const InnerBlock* kept = block(index);
    const bool begun = kept != nullptr && kept->inner.begun();
    layer.movement = begun ? movement_norm(inner, kept->inner, row_coefficient(index), inner_options())
                           : at::zeros({members, batch_}, squares.options());
    if (kept != nullptr) layer.clipped_share = kept->clipped_share;
    layer.carry_gap = carry_.largest_gap(index);
    result.push_back(std::move(layer));
  }
  return result;
}

// As the next token finds them: weights, then biases.
std::vector<at::Tensor> InnerStream::weights(int layer) const {
  const InnerBlock* kept = block(layer);
  if (kept != nullptr && kept->inner.begun())
    return current_weights(kept->inner, row_coefficient(layer), inner_options());
  return initial_weights(inner_model(layer));
}

// Open mini-batches end here, and their losses are recorded.
void InnerStream::close() {
  for (const int layer : layers())
    if (InnerBlock* kept = block(layer); kept != nullptr && kept->inner.begun())
      finish_streams(inner_model(layer), row_coefficient(layer), inner_options(), kept->inner, options_.recorder,
                     layer);
}

}  // namespace tenfold

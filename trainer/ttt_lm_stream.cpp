#include <ATen/ATen.h>

#include "experiments/error.h"
#include "trainer/carry_measure.h"
#include "trainer/ttt_lm.h"

namespace tenfold {
namespace {

class TttLmStream final : public LanguageStream {
 public:
  TttLmStream(const TttLm& model, const ModelState& state, const LanguageStreamOptions& options)
      : model_(model), state_(state), options_(options) {}

  at::Tensor feed(const at::Tensor& tokens) override {
    at::NoGradGuard no_grad;
    if (finished_) throw Error(ErrorKind::internal, "a language stream was fed after its end");
    if (!options_.carry) {
      close();
      for (TttLmStreams::Block& block : streams_.blocks) {
        block.inner = InnerState{};
        block.inner.origin = position_;
      }
    }
    streams_count_ = tokens.size(1);
    if (options_.measure_carry && position_ > 0)
      for (int index = 0; index < model_.spec().layers; ++index) carry_.enter(index, weights(index));
    at::Tensor out = model_.read(state_, tokens, streams_, options_.ttt, options_.recorder);
    position_ = streams_.position;
    if (options_.measure_carry)
      for (int index = 0; index < model_.spec().layers; ++index) carry_.leave(index, weights(index));
    return out;
  }

  void finish() override {
    at::NoGradGuard no_grad;
    close();
    finished_ = true;
  }

  std::vector<TttLayer> ttt_layers() const override {
    at::NoGradGuard no_grad;
    std::vector<TttLayer> layers;
    for (int index = 0; index < model_.spec().layers; ++index) {
      const InnerModel inner = model_.inner_model(state_, index);
      TttLayer layer;
      layer.layer = index;
      const std::int64_t members = inner.weights[0].size(0);
      at::Tensor squares = at::zeros({members}, inner.weights[0].options());
      for (const auto* tensors : {&inner.weights, &inner.biases})
        for (const at::Tensor& tensor : *tensors) squares += tensor.square().flatten(1).sum(-1);
      layer.norm = squares.sqrt();
      const auto place = static_cast<std::size_t>(index);
      const bool begun = place < streams_.blocks.size() && streams_.blocks[place].inner.begun();
      layer.movement = begun ? movement_norm(inner, streams_.blocks[place].inner, model_.row_coefficient(state_, index),
                                             model_.inner_options())
                             : at::zeros({members, streams_count_}, squares.options());
      if (begun) layer.clipped_share = streams_.blocks[place].clipped_share;
      layer.carry_gap = carry_.largest_gap(index);
      layers.push_back(std::move(layer));
    }
    return layers;
  }

  std::int64_t state_bytes() const override {
    std::int64_t bytes = 0;
    for (const TttLmStreams::Block& block : streams_.blocks) {
      bytes += block.inner.bytes();
      for (const at::Tensor* kept : {&block.conv_inputs, &block.qk_inputs})
        if (kept->defined()) bytes += static_cast<std::int64_t>(kept->storage().nbytes());
    }
    return bytes;
  }

 private:
  // As the next token finds them: weights, then biases.
  std::vector<at::Tensor> weights(int index) const {
    const auto place = static_cast<std::size_t>(index);
    if (place < streams_.blocks.size() && streams_.blocks[place].inner.begun())
      return current_weights(streams_.blocks[place].inner, model_.row_coefficient(state_, index),
                             model_.inner_options());
    return initial_weights(model_.inner_model(state_, index));
  }

  // Open mini-batches end here, and their losses are recorded.
  void close() {
    for (std::size_t i = 0; i < streams_.blocks.size(); ++i) {
      const int index = static_cast<int>(i);
      if (streams_.blocks[i].inner.begun())
        finish_streams(model_.inner_model(state_, index), model_.row_coefficient(state_, index), model_.inner_options(),
                       streams_.blocks[i].inner, options_.recorder, index);
    }
  }

  const TttLm& model_;
  const ModelState& state_;
  LanguageStreamOptions options_;
  TttLmStreams streams_;
  CarryMeasure carry_;
  std::int64_t streams_count_ = 1;
  bool finished_ = false;
};

}  // namespace

std::unique_ptr<LanguageStream> make_ttt_lm_stream(const Model& model, const ModelState& state,
                                                   const LanguageStreamOptions& options) {
  const auto* ttt_lm = dynamic_cast<const TttLm*>(&model);
  if (ttt_lm == nullptr)
    throw Error(ErrorKind::config, "model.kind: " + model.spec().kind + " does not read streams as ttt_lm does");
  return std::make_unique<TttLmStream>(*ttt_lm, state, options);
}

}  // namespace tenfold

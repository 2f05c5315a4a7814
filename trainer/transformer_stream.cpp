#include <ATen/ATen.h>

#include "experiments/error.h"
#include "trainer/carry_measure.h"
#include "trainer/transformer_lm.h"

namespace tenfold {
namespace {

constexpr std::int64_t kWindow = 4096;  // tokens that attention reaches back to in a stream

class TransformerStream final : public LanguageStream {
 public:
  TransformerStream(const TransformerLm& model, const ModelState& state, const LanguageStreamOptions& options,
                    std::int64_t window)
      : model_(model), state_(state), options_(options) {
    streams_.window = window;
  }

  at::Tensor feed(const at::Tensor& tokens) override {
    at::NoGradGuard no_grad;
    if (finished_) throw Error(ErrorKind::internal, "a language stream was fed after its end");
    if (!options_.carry) {
      close();
      for (TransformerStreams::Block& block : streams_.blocks) {
        block.inner = InnerState{};
        block.inner.origin = position_;
      }
    }
    batch_ = tokens.size(1);
    if (options_.measure_carry && position_ > 0)
      for (const int index : model_.ttt_blocks()) carry_.enter(index, weights(index));
    at::Tensor out = model_.read(state_, tokens, streams_, options_.ttt, options_.recorder);
    position_ = streams_.position;
    if (options_.measure_carry)
      for (const int index : model_.ttt_blocks()) carry_.leave(index, weights(index));
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
    for (const int index : model_.ttt_blocks()) {
      const PlacedTttParameters parameters = model_.ttt_parameters(state_, index);
      const std::int64_t members = parameters.gate_alpha.size(0);
      TttLayer layer;
      layer.layer = index;
      layer.mean_tanh_gate = at::tanh(parameters.gate_alpha).abs().mean(-1);
      at::Tensor squares = at::zeros({members}, parameters.gate_alpha.options());
      for (const auto* tensors : {&parameters.inner.weights, &parameters.inner.biases})
        for (const at::Tensor& tensor : *tensors) squares += tensor.square().flatten(1).sum(-1);
      layer.norm = squares.sqrt();
      const auto* block = block_at(index);
      layer.movement = block != nullptr && block->inner.begun()
                           ? movement_norm(parameters.inner, block->inner, {}, model_.inner_options())
                           : at::zeros({members, batch_}, parameters.gate_alpha.options());
      if (block != nullptr) layer.clipped_share = block->clipped_share;
      layer.carry_gap = carry_.largest_gap(index);
      layers.push_back(std::move(layer));
    }
    return layers;
  }

  std::int64_t state_bytes() const override {
    std::int64_t bytes = 0;
    for (const TransformerStreams::Block& block : streams_.blocks) {
      if (block.keys.defined()) bytes += static_cast<std::int64_t>(block.keys.nbytes() + block.values.nbytes());
      bytes += block.inner.bytes();
    }
    return bytes;
  }

 private:
  const TransformerStreams::Block* block_at(int index) const {
    const auto place = static_cast<std::size_t>(index);
    return place < streams_.blocks.size() ? &streams_.blocks[place] : nullptr;
  }

  // As the next token finds them: weights, then biases.
  std::vector<at::Tensor> weights(int index) const {
    const TransformerStreams::Block* block = block_at(index);
    if (block != nullptr && block->inner.begun()) return current_weights(block->inner, {}, model_.inner_options());
    return initial_weights(model_.ttt_parameters(state_, index).inner);
  }

  // Open mini-batches end here, and their losses are recorded.
  void close() {
    if (streams_.blocks.empty()) return;
    for (const int index : model_.ttt_blocks()) {
      InnerState& inner = streams_.blocks[static_cast<std::size_t>(index)].inner;
      if (inner.begun())
        finish_streams(model_.ttt_parameters(state_, index).inner, {}, model_.inner_options(), inner, options_.recorder,
                       index);
    }
  }

  const TransformerLm& model_;
  const ModelState& state_;
  LanguageStreamOptions options_;
  TransformerStreams streams_;
  CarryMeasure carry_;
  std::int64_t batch_ = 1;
  bool finished_ = false;
};

}  // namespace

std::unique_ptr<LanguageStream> make_transformer_lm_stream(const Model& model, const ModelState& state,
                                                           const LanguageStreamOptions& options, std::int64_t window) {
  const auto* transformer = dynamic_cast<const TransformerLm*>(&model);
  if (transformer == nullptr)
    throw Error(ErrorKind::config,
                "model.kind: " + model.spec().kind + " does not read streams as transformer_lm does");
  if (window < 1) throw Error(ErrorKind::config, "a stream's attention needs a window of at least 1 token");
  return std::make_unique<TransformerStream>(*transformer, state, options, window);
}

std::unique_ptr<LanguageStream> make_transformer_lm_stream(const Model& model, const ModelState& state,
                                                           const LanguageStreamOptions& options) {
  return make_transformer_lm_stream(model, state, options, kWindow);
}

}  // namespace tenfold

#include <ATen/ATen.h>

#include "experiments/error.h"
#include "trainer/inner_stream.h"
#include "trainer/transformer_lm.h"

namespace tenfold {
namespace {

constexpr std::int64_t kWindow = 4096;  // tokens that attention reaches back to in a stream

class TransformerStream final : public InnerStream {
 public:
  TransformerStream(const TransformerLm& model, const ModelState& state, const LanguageStreamOptions& options,
                    std::int64_t window)
      : InnerStream(options), model_(model), state_(state) {
    streams_.window = window;
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
  std::vector<int> layers() const override { return model_.ttt_blocks(); }
  const InnerLoopOptions& inner_options() const override { return model_.inner_options(); }
  InnerModel inner_model(int layer) const override { return model_.ttt_parameters(state_, layer).inner; }
  at::Tensor gate_alpha(int layer) const override { return model_.ttt_parameters(state_, layer).gate_alpha; }
  const InnerBlock* block(int layer) const override {
    const auto place = static_cast<std::size_t>(layer);
    return place < streams_.blocks.size() ? &streams_.blocks[place] : nullptr;
  }
  at::Tensor read(const at::Tensor& tokens) override {
    at::Tensor out = model_.read(state_, tokens, streams_, options().ttt, options().recorder);
    position_ = streams_.position;
    return out;
  }

  const TransformerLm& model_;
  const ModelState& state_;
  TransformerStreams streams_;
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

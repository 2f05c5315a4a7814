#include <ATen/ATen.h>

#include <numeric>

#include "experiments/error.h"
#include "trainer/inner_stream.h"
#include "trainer/ttt_lm.h"

namespace tenfold {
namespace {

class TttLmStream final : public InnerStream {
 public:
  TttLmStream(const TttLm& model, const ModelState& state, const LanguageStreamOptions& options)
      : InnerStream(options), model_(model), state_(state), layers_(static_cast<std::size_t>(model.spec().layers)) {
    std::iota(layers_.begin(), layers_.end(), 0);
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
  std::vector<int> layers() const override { return layers_; }
  const InnerLoopOptions& inner_options() const override { return model_.inner_options(); }
  InnerModel inner_model(int layer) const override { return model_.inner_model(state_, layer); }
  at::Tensor row_coefficient(int layer) const override { return model_.row_coefficient(state_, layer); }
  const InnerBlock* block(int layer) const override {
    const auto place = static_cast<std::size_t>(layer);
    return place < streams_.blocks.size() ? &streams_.blocks[place] : nullptr;
  }
  at::Tensor read(const at::Tensor& tokens) override {
    at::Tensor out = model_.read(state_, tokens, streams_, options().ttt, options().recorder);
    position_ = streams_.position;
    return out;
  }

  const TttLm& model_;
  const ModelState& state_;
  std::vector<int> layers_;
  TttLmStreams streams_;
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

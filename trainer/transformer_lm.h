#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "trainer/language_stream.h"
#include "trainer/model.h"
#include "trainer/placed_ttt.h"

namespace tenfold {

// What a TransformerLm keeps of its streams between calls.
struct TransformerStreams {
  struct Block : InnerBlock {
    at::Tensor keys, values;  // (K, B, H, S, f), S below the window
  };
  std::vector<Block> blocks;
  std::int64_t position = 0;  // tokens read
  std::int64_t window = 0;    // tokens that attention reaches back to, its own among them
};

// A decoder-only transformer in the shape of Llama: with rms norms (eps 1e-6), rotary positions on the pairs (i, i +
// f/2) as its checkpoints have them, causal attention, SwiGLU, and TTT layers where model.ttt.layers places them:
//   x <- x + attention(norm(x));   x <- x + tanh(alpha) TTT(x);   x <- x + ff(norm(x))
// Dropout acts on what is added to x. Parameters: transformer_layout.h.
class TransformerLm final : public Model {
 public:
  TransformerLm(const ModelSpec& spec, const ModelData& data);

  at::Tensor forward(ModelState& state, const Batch& batch, const ForwardMode& mode) const override;

  // Reads the next tokens (K, B, T) of streams -> logits (K, B, T, vocabulary).
  at::Tensor read(const ModelState& state, const at::Tensor& tokens, TransformerStreams& streams, TttSwitch ttt,
                  InnerLossRecorder* recorder) const;

  // Blocks with a TTT layer, ascending, and the layer's parameters.
  const std::vector<int>& ttt_blocks() const { return ttt_blocks_; }
  PlacedTttParameters ttt_parameters(const ModelState& state, int block) const;
  const InnerLoopOptions& inner_options() const { return inner_options_; }

 private:
  struct Projection {  // indices into the parameters
    std::size_t weight;
    std::optional<std::size_t> lora;  // of lora_A; lora_B follows
  };
  struct Block {
    std::size_t attention_norm, feed_forward_norm;
    Projection q, k, v, o, gate, up, down;
    std::optional<std::size_t> ttt;  // of the layer's first parameter
  };
  struct Pass;  // what one pass carries through the blocks

  at::Tensor logits(const ModelState& state, const at::Tensor& tokens, const Pass& pass) const;
  at::Tensor attention(const ModelState& state, const Block& block, const at::Tensor& x, const Pass& pass,
                       TransformerStreams::Block* stream) const;
  at::Tensor feed_forward(const ModelState& state, const Block& block, const at::Tensor& x) const;
  at::Tensor project(const ModelState& state, const Projection& projection, const at::Tensor& x) const;

  std::vector<Block> blocks_;
  std::vector<int> ttt_blocks_;
  std::size_t last_norm_, head_;
  InnerLoopOptions inner_options_;
};

// window: tokens that attention reaches back to.
std::unique_ptr<LanguageStream> make_transformer_lm_stream(const Model& model, const ModelState& state,
                                                           const LanguageStreamOptions& options, std::int64_t window);

}  // namespace tenfold

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "trainer/language_stream.h"
#include "trainer/model.h"
#include "ttt/inner_loop.h"

namespace tenfold {

// What a TttLm keeps of its streams between calls.
struct TttLmStreams {
  struct Block : InnerBlock {
    at::Tensor conv_inputs, qk_inputs;  // (K, B, 3, D) the last inputs of the convolutions
  };
  std::vector<Block> blocks;
  std::int64_t position = 0;  // tokens read
};

// A decoder-only language model whose only memory is the inner models of its TTT layers (Sun et al. 2024):
//   [x <- x + conv(norm(x))];   x <- x + TTT(norm(x));   x <- x + ff(norm(x))
// with rms norms (eps 1e-6) and SwiGLU. In TTT, queries and keys are turned by rotary positions (interleaved pairs)
// within a mini-batch; the heads' outputs pass a layer norm, an optional gate gelu(x Wg) and the output projection.
// Dropout acts on what is added to x. Parameters: ttt_lm_layout.h; the inner loop: ttt/inner_loop.h.
class TttLm final : public Model {
 public:
  TttLm(const ModelSpec& spec, const ModelData& data);

  at::Tensor forward(ModelState& state, const Batch& batch, const ForwardMode& mode) const override;

  // Reads the next tokens (K, B, T) of streams -> logits (K, B, T, vocabulary). base_lr (K), or undefined: the spec's.
  at::Tensor read(const ModelState& state, const at::Tensor& tokens, TttLmStreams& streams, TttSwitch ttt,
                  InnerLossRecorder* recorder, const at::Tensor& base_lr = {}) const;

  InnerModel inner_model(const ModelState& state, int block) const;
  at::Tensor row_coefficient(const ModelState& state, int block) const;  // (K, m)
  const InnerLoopOptions& inner_options() const { return inner_options_; }

 private:
  struct Convolution {
    std::size_t weight, bias;
  };
  // Indices into the parameters.
  struct Block {
    std::size_t seq_norm, q, v, o, rate_weight, rate_bias, token_idx, inner_norm_weight, inner_norm_bias;
    std::size_t post_norm_weight, post_norm_bias, ffn_norm, gate, up, down;
    std::optional<std::size_t> k, output_gate, conv_norm;
    std::optional<Convolution> conv, conv_q, conv_k;
    std::vector<std::size_t> inner_weights, inner_biases;
  };
  struct Pass;  // what one pass carries through the blocks

  at::Tensor logits(const ModelState& state, const at::Tensor& tokens, const Pass& pass) const;
  at::Tensor ttt(const ModelState& state, int index, const at::Tensor& x, const Pass& pass,
                 TttLmStreams::Block* stream) const;
  at::Tensor feed_forward(const ModelState& state, const Block& block, const at::Tensor& x) const;

  std::vector<Block> blocks_;
  std::size_t embedding_, last_norm_, head_;
  InnerLoopOptions inner_options_;
};

}  // namespace tenfold

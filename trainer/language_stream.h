#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "trainer/model.h"
#include "ttt/inner_loop.h"

namespace tenfold {

// What the TTT layers do while a stream is read.
enum class TttSwitch {
  on,
  frozen,  // the inner models keep W_0: nothing is learned while reading
  off,     // the layers add nothing to the residual stream
};

// What every block of a language model keeps of its TTT layer between calls.
struct InnerBlock {
  InnerState inner;
  at::Tensor clipped_share;  // of the last call
};

// A language model reading streams piece by piece. What it keeps between pieces (inner models, the last inputs of
// convolutions, keys and values of a bounded window) does not grow with the stream. The pieces do not matter: logits
// are those of one call over the whole stream, to rounding. Gradients are not kept.
class LanguageStream {
 public:
  virtual ~LanguageStream() = default;
  // tokens (K, B, T) int64, the next T of each stream; the same K and B in all calls -> logits (K, B, T, vocabulary).
  virtual at::Tensor feed(const at::Tensor& tokens) = 0;
  // The streams end: a partial mini-batch is closed and its losses are recorded. feed() may not follow.
  virtual void finish() = 0;
  std::int64_t position() const { return position_; }  // tokens fed so far

  struct TttLayer {
    int layer;                  // as recorders and ParameterInfo::layer count
    at::Tensor movement;        // (K, B) |W_t - W_0| over weights and biases of all heads
    at::Tensor norm;            // (K) |W_0|
    at::Tensor clipped_share;   // (K) of tokens and heads in the last call; undefined without inner_clip_norm
    at::Tensor mean_tanh_gate;  // (K) mean |tanh(alpha)|; undefined where the layers have no gate
    // (K, B) largest |W entering a call - W after the call before|; undefined before the second call, and unless asked
    // for.
    at::Tensor carry_gap;
  };
  // One entry per TTT layer, ascending; movement 0 before the first token.
  virtual std::vector<TttLayer> ttt_layers() const = 0;
  virtual std::int64_t state_bytes() const = 0;  // of all that is kept between calls

 protected:
  std::int64_t position_ = 0;
};

struct LanguageStreamOptions {
  TttSwitch ttt = TttSwitch::on;
  InnerLossRecorder* recorder = nullptr;  // by the index of the block (ParameterInfo::layer)
  // false: the inner models are W_0 again at every call (model.ttt.persistent: false), which a diagnosis tells from a
  // state that is carried.
  bool carry = true;
  bool measure_carry = false;  // TttLayer::carry_gap: costs a copy of the inner models
};

// model and state must outlive the stream; the state is read only. Throws Error(config) for models of another kind.
std::unique_ptr<LanguageStream> make_language_stream(const Model& model, const ModelState& state,
                                                     const LanguageStreamOptions& options = {});

std::unique_ptr<LanguageStream> make_ttt_lm_stream(const Model& model, const ModelState& state,
                                                   const LanguageStreamOptions& options);
std::unique_ptr<LanguageStream> make_transformer_lm_stream(const Model& model, const ModelState& state,
                                                           const LanguageStreamOptions& options);

}  // namespace tenfold

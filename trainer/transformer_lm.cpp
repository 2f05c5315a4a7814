#include "trainer/transformer_lm.h"

#include <ATen/ATen.h>

#include <string>

#include "experiments/error.h"
#include "experiments/method_defaults.h"
#include "trainer/language_layers.h"
#include "trainer/transformer_layout.h"

namespace tenfold {
namespace {

constexpr double kNormEps = 1e-6;
// Masks are keyed by these: a block's do not depend on where TTT layers are.
enum DropoutSite { kAttention, kTtt, kFeedForward, kSitesOfBlock };

// Parameters in the layout's order, each met by its name.
class Cursor {
 public:
  explicit Cursor(const ModelLayout& layout) : parameters_(layout.parameters) {}
  bool at(const std::string& name) const { return next_ < parameters_.size() && parameters_[next_].name == name; }
  std::size_t take(const std::string& name) {
    if (!at(name)) throw Error(ErrorKind::internal, "the layout of transformer_lm has no " + name + " where it is due");
    return next_++;
  }
  void skip(std::size_t count) { next_ += count; }

 private:
  const std::vector<ParameterInfo>& parameters_;
  std::size_t next_ = 0;
};

}  // namespace

struct TransformerLm::Pass {
  layers::Rotation rotation;
  at::Tensor step_weight;
  const ForwardMode* mode = nullptr;
  TransformerStreams* streams = nullptr;
  TttSwitch ttt = TttSwitch::on;
  InnerLossRecorder* recorder = nullptr;
  at::Tensor base_lr;  // (K); undefined: the model's own

  at::Tensor dropped(const at::Tensor& x, int block, DropoutSite site) const {
    if (mode == nullptr || mode->dropout == nullptr || !mode->dropout->any()) return x;
    const at::Tensor mask =
        mode->dropout->mask(block * kSitesOfBlock + site, x.size(1), x.size(2) * x.size(3), *mode->counter);
    return x * mask.view({mask.size(0), x.size(1), x.size(2), x.size(3)});
  }
};

TransformerLm::TransformerLm(const ModelSpec& spec, const ModelData& data)
    : Model(spec, data, transformer_lm_layout(spec, data.classes)), inner_options_(placed_ttt_options(spec.ttt)) {
  Cursor cursor(layout());
  const auto projection = [&](const std::string& name) {
    Projection found{cursor.take(name + ".weight"), {}};
    if (cursor.at(name + ".lora_A.weight")) {
      found.lora = cursor.take(name + ".lora_A.weight");
      cursor.take(name + ".lora_B.weight");
    }
    return found;
  };
  cursor.take("model.embed_tokens.weight");
  for (int i = 0; i < spec.layers; ++i) {
    const std::string name = "model.layers." + std::to_string(i) + ".";
    Block block;
    block.attention_norm = cursor.take(name + "input_layernorm.weight");
    block.q = projection(name + "self_attn.q_proj");
    block.k = projection(name + "self_attn.k_proj");
    block.v = projection(name + "self_attn.v_proj");
    block.o = projection(name + "self_attn.o_proj");
    if (cursor.at(name + "ttt.q_proj.weight")) {
      block.ttt = cursor.take(name + "ttt.q_proj.weight");
      while (!cursor.at(name + "ttt.gate_alpha")) cursor.skip(1);
      cursor.skip(1);
      ttt_blocks_.push_back(i);
    }
    block.feed_forward_norm = cursor.take(name + "post_attention_layernorm.weight");
    block.gate = projection(name + "mlp.gate_proj");
    block.up = projection(name + "mlp.up_proj");
    block.down = projection(name + "mlp.down_proj");
    blocks_.push_back(block);
  }
  last_norm_ = cursor.take("model.norm.weight");
  head_ = spec.tie_embeddings ? 0 : cursor.take("lm_head.weight");
}

at::Tensor TransformerLm::forward(ModelState& state, const Batch& batch, const ForwardMode& mode) const {
  Pass pass;
  pass.mode = &mode;
  pass.step_weight = batch.step_weight;
  pass.recorder = mode.inner_losses;
  pass.base_lr = mode.base_lr;
  return logits(state, batch.x, pass).flatten(1, 2);
}

at::Tensor TransformerLm::read(const ModelState& state, const at::Tensor& tokens, TransformerStreams& streams,
                               TttSwitch ttt, InnerLossRecorder* recorder) const {
  streams.blocks.resize(blocks_.size());
  Pass pass;
  pass.streams = &streams;
  pass.ttt = ttt;
  pass.recorder = recorder;
  const at::Tensor out = logits(state, tokens, pass);
  streams.position += tokens.size(2);
  return out;
}

at::Tensor TransformerLm::logits(const ModelState& state, const at::Tensor& tokens, const Pass& given) const {
  Pass pass = given;
  const at::Tensor& embedding = state.parameters[0];
  const std::int64_t first = pass.streams == nullptr ? 0 : pass.streams->position;
  const at::Tensor positions = at::arange(first, first + tokens.size(2), tokens.options());
  pass.rotation = layers::rotation(positions, spec().width / spec().heads, spec().rope_base, embedding.scalar_type());
  if (pass.ttt == TttSwitch::frozen)
    pass.base_lr = at::zeros({tokens.size(0)}, embedding.options());
  else if (!pass.base_lr.defined())
    pass.base_lr =
        at::full({tokens.size(0)}, spec().ttt.base_lr.value_or(default_inner_rate(spec())), embedding.options());
  at::Tensor x = layers::embed(tokens, embedding);
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const Block& block = blocks_[i];
    const int layer = static_cast<int>(i);
    TransformerStreams::Block* stream = pass.streams == nullptr ? nullptr : &pass.streams->blocks[i];
    x = x + pass.dropped(attention(state, block, x, pass, stream), layer, kAttention);
    if (block.ttt && pass.ttt != TttSwitch::off) {
      PlacedTttCall call;
      call.base_lr = pass.base_lr;
      call.step_weight = pass.step_weight;
      call.state = stream == nullptr ? nullptr : &stream->inner;
      call.recorder = pass.recorder;
      call.layer = layer;
      const PlacedTttResult ttt = placed_ttt(x, ttt_parameters(state, layer), inner_options_, call);
      if (stream != nullptr) stream->clipped_share = ttt.clipped_share;
      x = x + pass.dropped(ttt.output, layer, kTtt);
    }
    x = x + pass.dropped(feed_forward(state, block, x), layer, kFeedForward);
  }
  return layers::project(layers::rms_norm(x, state.parameters[last_norm_], kNormEps), state.parameters[head_]);
}

at::Tensor TransformerLm::attention(const ModelState& state, const Block& block, const at::Tensor& x, const Pass& pass,
                                    TransformerStreams::Block* stream) const {
  const at::Tensor normed = layers::rms_norm(x, state.parameters[block.attention_norm], kNormEps);
  const auto heads = [&](const Projection& projection) {
    return layers::split_heads(project(state, projection, normed), spec().heads);
  };
  const at::Tensor q = layers::rotate_halves(heads(block.q), pass.rotation);
  at::Tensor k = layers::rotate_halves(heads(block.k), pass.rotation), v = heads(block.v);
  if (stream == nullptr) return project(state, block.o, layers::join_heads(layers::causal_attention(q, k, v)));
  if (stream->keys.defined()) {
    k = at::cat({stream->keys, k}, 3);
    v = at::cat({stream->values, v}, 3);
  }
  const at::Tensor seen = layers::window_attention(q, k, v, pass.streams->window);
  // Copies: a view would keep all of the tensor that it looks into.
  const std::int64_t kept = std::min(k.size(3), pass.streams->window - 1);
  stream->keys = k.narrow(3, k.size(3) - kept, kept).clone();
  stream->values = v.narrow(3, v.size(3) - kept, kept).clone();
  return project(state, block.o, layers::join_heads(seen));
}

at::Tensor TransformerLm::feed_forward(const ModelState& state, const Block& block, const at::Tensor& x) const {
  const at::Tensor normed = layers::rms_norm(x, state.parameters[block.feed_forward_norm], kNormEps);
  return project(state, block.down,
                 layers::swiglu(project(state, block.gate, normed), project(state, block.up, normed)));
}

at::Tensor TransformerLm::project(const ModelState& state, const Projection& projection, const at::Tensor& x) const {
  const at::Tensor& weight = state.parameters[projection.weight];
  if (!projection.lora) return layers::project(x, weight);
  return layers::project_lora(x, weight, state.parameters[*projection.lora], state.parameters[*projection.lora + 1],
                              spec().lora.scaling);
}

PlacedTttParameters TransformerLm::ttt_parameters(const ModelState& state, int block) const {
  const at::Tensor* next = &state.parameters[blocks_[static_cast<std::size_t>(block)].ttt.value()];
  PlacedTttParameters found;
  found.q_proj = *next++;
  found.k_proj = *next++;
  found.v_proj = *next++;
  found.o_proj = *next++;
  for (int n = 0; n < inner_depth(spec().ttt); ++n) {
    found.inner.weights.push_back(*next++);
    found.inner.biases.push_back(*next++);
  }
  found.rate_weight = *next++;
  found.rate_bias = *next++;
  found.inner.norm_weight = *next++;
  found.inner.norm_bias = *next++;
  found.post_norm_weight = *next++;
  found.post_norm_bias = *next++;
  found.gate_alpha = *next++;
  return found;
}

std::unique_ptr<Model> make_transformer_lm(const ModelSpec& spec, const ModelData& data) {
  if (data.kind != SampleKind::tokens)
    throw Error(ErrorKind::config, std::string("model.kind: transformer_lm reads tokens, and these samples are ") +
                                       (data.kind == SampleKind::fixed ? "of one shape; use mlp or cnn"
                                                                       : "sequences; use ttt_rnn, gru or lstm") +
                                       ", or a dataset of kind text or tokens");
  return std::make_unique<TransformerLm>(spec, data);
}

}  // namespace tenfold

#include "trainer/ttt_lm.h"

#include <ATen/ATen.h>

#include <map>

#include "experiments/error.h"
#include "experiments/method_defaults.h"
#include "trainer/language_layers.h"
#include "trainer/transformer_layout.h"
#include "trainer/ttt_lm_layout.h"
#include "ttt/smooth.h"

namespace tenfold {
namespace {

constexpr double kNormEps = 1e-6;

// Depthwise and causal: y_t = bias + sum_j weight_j x_(t-3+j). x (K, B, T, D), weight (K, D, 1, 4), bias (K, D).
// earlier (K, B, 3, D): the inputs before x, zeros at a stream's beginning; becomes those before the next call.
at::Tensor causal_convolution(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                              at::Tensor* earlier) {
  const std::int64_t kernel = weight.size(3), tokens = x.size(2);
  const bool begun = earlier != nullptr && earlier->defined();
  const at::Tensor before = begun ? *earlier : at::zeros({x.size(0), x.size(1), kernel - 1, x.size(3)}, x.options());
  const at::Tensor all = at::cat({before, x}, 2);
  if (earlier != nullptr) *earlier = all.narrow(2, tokens, kernel - 1).detach().clone();
  at::Tensor y;
  for (std::int64_t j = 0; j < kernel; ++j) {
    const at::Tensor shifted = all.narrow(2, j, tokens), tap = weight.select(3, j).squeeze(2);
    y = j == 0 ? layers::scale(shifted, tap) : y + layers::scale(shifted, tap);
  }
  // As a product with ones, so that the bias' gradient is one, too: a sum over rows would be in an order that depends
  // on K.
  return y + layers::scale(at::ones_like(y), bias);
}

}  // namespace

struct TttLm::Pass {
  at::Tensor base_lr;      // (K); undefined: the model's own
  at::Tensor step_weight;  // (K, B, T); undefined: all real
  DropoutMasks* dropout = nullptr;
  const StepCounter* counter = nullptr;
  InnerLossRecorder* recorder = nullptr;
  TttLmStreams* streams = nullptr;
  TttSwitch ttt = TttSwitch::on;

  // x + branch, some of whose values are silenced while training. x (K, B, T, D).
  at::Tensor add(const at::Tensor& x, const at::Tensor& branch, int site) const {
    if (dropout == nullptr || !dropout->any()) return x + branch;
    return at::addcmul(
        x, branch,
        dropout->mask(site, x.size(1), x.size(2) * x.size(3), *counter).view({-1, x.size(1), x.size(2), x.size(3)}));
  }
};

TttLm::TttLm(const ModelSpec& spec, const ModelData& data)
    : Model(spec, data, model_layout(spec, data.sample_shape, data.classes)) {
  std::map<std::string, std::size_t> place;
  for (std::size_t i = 0; i < layout().parameters.size(); ++i) place[layout().parameters[i].name] = i;
  for (int i = 0; i < spec.layers; ++i) {
    const std::string name = "model.layers." + std::to_string(i) + ".", inner = name + "seq_modeling_block.";
    const auto optional = [&](const std::string& key) {
      return place.contains(key) ? std::optional(place.at(key)) : std::nullopt;
    };
    const auto convolution = [&](const std::string& key) {
      return place.contains(key + ".weight")
                 ? std::optional(Convolution{place.at(key + ".weight"), place.at(key + ".bias")})
                 : std::nullopt;
    };
    Block block;
    block.seq_norm = place.at(name + "seq_norm.weight");
    block.q = place.at(inner + "q_proj.weight");
    block.v = place.at(inner + "v_proj.weight");
    block.o = place.at(inner + "o_proj.weight");
    block.rate_weight = place.at(inner + "learnable_ttt_lr_weight");
    block.rate_bias = place.at(inner + "learnable_ttt_lr_bias");
    block.token_idx = place.at(inner + "learnable_token_idx");
    block.inner_norm_weight = place.at(inner + "ttt_norm_weight");
    block.inner_norm_bias = place.at(inner + "ttt_norm_bias");
    block.post_norm_weight = place.at(inner + "post_norm.weight");
    block.post_norm_bias = place.at(inner + "post_norm.bias");
    block.ffn_norm = place.at(name + "ffn_norm.weight");
    block.gate = place.at(name + "mlp.gate_proj.weight");
    block.up = place.at(name + "mlp.up_proj.weight");
    block.down = place.at(name + "mlp.down_proj.weight");
    block.k = optional(inner + "k_proj.weight");
    block.output_gate = optional(inner + "g_proj.weight");
    block.conv_norm = optional(name + "conv.norm.weight");
    block.conv = convolution(name + "conv.conv");
    block.conv_q = convolution(inner + "conv_q");
    block.conv_k = convolution(inner + "conv_k");
    for (int n = 1; n <= inner_depth(spec.ttt); ++n) {
      block.inner_weights.push_back(place.at(inner + "W" + std::to_string(n)));
      block.inner_biases.push_back(place.at(inner + "b" + std::to_string(n)));
    }
    blocks_.push_back(std::move(block));
  }
  embedding_ = place.at("model.embed_tokens.weight");
  last_norm_ = place.at("model.norm.weight");
  head_ = spec.tie_embeddings ? embedding_ : place.at("lm_head.weight");
  inner_options_.mini_batch_size = spec.ttt.mini_batch_size;
  inner_options_.eps = kNormEps;
  inner_options_.clip_norm = spec.ttt.inner_clip_norm;
  inner_options_.checkpoint_group_size = spec.ttt.checkpoint_group_size;
}

at::Tensor TttLm::forward(ModelState& state, const Batch& batch, const ForwardMode& mode) const {
  Pass pass;
  pass.base_lr = mode.base_lr;
  pass.step_weight = batch.step_weight;
  pass.dropout = mode.dropout;
  pass.counter = mode.counter;
  pass.recorder = mode.inner_losses;
  return logits(state, batch.x, pass).flatten(1, 2);
}

at::Tensor TttLm::read(const ModelState& state, const at::Tensor& tokens, TttLmStreams& streams, TttSwitch ttt,
                       InnerLossRecorder* recorder, const at::Tensor& base_lr) const {
  streams.blocks.resize(blocks_.size());
  Pass pass;
  pass.base_lr = base_lr;
  pass.recorder = recorder;
  pass.streams = &streams;
  pass.ttt = ttt;
  const at::Tensor out = logits(state, tokens, pass);
  streams.position += tokens.size(2);
  return out;
}

InnerModel TttLm::inner_model(const ModelState& state, int index) const {
  const Block& block = blocks_[static_cast<std::size_t>(index)];
  InnerModel model;
  for (const std::size_t weight : block.inner_weights) model.weights.push_back(state.parameters[weight]);
  for (const std::size_t bias : block.inner_biases) model.biases.push_back(state.parameters[bias]);
  model.norm_weight = state.parameters[block.inner_norm_weight];
  model.norm_bias = state.parameters[block.inner_norm_bias];
  return model;
}

at::Tensor TttLm::row_coefficient(const ModelState& state, int index) const {
  return row_coefficients(state.parameters[blocks_[static_cast<std::size_t>(index)].token_idx]);
}

at::Tensor TttLm::logits(const ModelState& state, const at::Tensor& tokens, const Pass& given) const {
  const auto& parameters = state.parameters;
  at::Tensor x = layers::embed(tokens, parameters[embedding_]);
  Pass pass = given;
  if (pass.ttt == TttSwitch::frozen)
    pass.base_lr = at::zeros({x.size(0)}, x.options());
  else if (!pass.base_lr.defined())
    pass.base_lr = at::full({x.size(0)}, spec().ttt.base_lr.value_or(default_inner_rate(spec())), x.options());
  for (int i = 0; i < static_cast<int>(blocks_.size()); ++i) {
    const Block& block = blocks_[static_cast<std::size_t>(i)];
    TttLmStreams::Block* stream =
        pass.streams != nullptr ? &pass.streams->blocks[static_cast<std::size_t>(i)] : nullptr;
    if (block.conv)
      x = x + causal_convolution(layers::rms_norm(x, parameters[*block.conv_norm], kNormEps),
                                 parameters[block.conv->weight], parameters[block.conv->bias],
                                 stream != nullptr ? &stream->conv_inputs : nullptr);
    if (pass.ttt != TttSwitch::off)
      x = pass.add(x, ttt(state, i, layers::rms_norm(x, parameters[block.seq_norm], kNormEps), pass, stream), 2 * i);
    x = pass.add(x, feed_forward(state, block, layers::rms_norm(x, parameters[block.ffn_norm], kNormEps)), 2 * i + 1);
  }
  return layers::project(layers::rms_norm(x, parameters[last_norm_], kNormEps), parameters[head_]);
}

at::Tensor TttLm::ttt(const ModelState& state, int index, const at::Tensor& x, const Pass& pass,
                      TttLmStreams::Block* stream) const {
  const auto& parameters = state.parameters;
  const Block& block = blocks_[static_cast<std::size_t>(index)];
  const std::int64_t heads = spec().heads, f = spec().width / heads, m = inner_options_.mini_batch_size;
  at::Tensor q = layers::project(x, parameters[block.q]), k;
  if (block.k) {
    k = layers::project(x, parameters[*block.k]);
  } else {
    // Both convolutions have the same inputs, so what one keeps of them is what the other needs.
    at::Tensor* kept = stream != nullptr ? &stream->qk_inputs : nullptr;
    at::Tensor earlier = kept != nullptr ? *kept : at::Tensor();
    k = causal_convolution(q, parameters[block.conv_k->weight], parameters[block.conv_k->bias], &earlier);
    q = causal_convolution(q, parameters[block.conv_q->weight], parameters[block.conv_q->bias], kept);
  }
  InnerState* inner = stream != nullptr ? &stream->inner : nullptr;
  const std::int64_t first = inner != nullptr ? inner->position % m : 0;
  const at::Tensor position =
      at::arange(first, first + x.size(2), x.options().dtype(at::kLong).requires_grad(false)).remainder(m);
  const layers::Rotation turn = layers::rotation(position, f, spec().rope_base, x.scalar_type());

  InnerTokens tokens;
  tokens.q = rotate_pairs(layers::split_heads(q, heads), turn.cosine, turn.sine);
  tokens.k = rotate_pairs(layers::split_heads(k, heads), turn.cosine, turn.sine);
  tokens.v = layers::split_heads(layers::project(x, parameters[block.v]), heads);
  tokens.rate =
      token_rates(x, parameters[block.rate_weight], parameters[block.rate_bias], pass.base_lr, static_cast<double>(f));
  tokens.row_coefficient = row_coefficient(state, index);
  tokens.step_weight = pass.step_weight;
  const InnerLoopResult learned =
      inner_loop(inner_model(state, index), tokens, inner_options_, inner, pass.recorder, index);
  if (stream != nullptr) stream->clipped_share = learned.clipped_share;

  at::Tensor y = layers::layer_norm(layers::join_heads(learned.output), parameters[block.post_norm_weight],
                                    parameters[block.post_norm_bias], kNormEps);
  if (block.output_gate) y = inner::gelu(layers::project(x, parameters[*block.output_gate])) * y;
  return layers::project(y, parameters[block.o]);
}

at::Tensor TttLm::feed_forward(const ModelState& state, const Block& block, const at::Tensor& x) const {
  const auto& parameters = state.parameters;
  return layers::project(
      layers::swiglu(layers::project(x, parameters[block.gate]), layers::project(x, parameters[block.up])),
      parameters[block.down]);
}

std::unique_ptr<Model> make_ttt_lm(const ModelSpec& spec, const ModelData& data) {
  if (data.kind != SampleKind::tokens)
    throw Error(ErrorKind::config,
                "model.kind: ttt_lm takes tokens, and these samples are " +
                    std::string(data.kind == SampleKind::fixed ? "of one shape; use mlp or cnn"
                                                               : "sequences; use ttt_rnn, gru or lstm"));
  return std::make_unique<TttLm>(spec, data);
}

}  // namespace tenfold

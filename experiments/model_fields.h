#pragma once

#include <array>

#include "experiments/field.h"
#include "experiments/spec.h"

// Keys of `model` (see spec_fields.h).
namespace tenfold {

namespace names {
using std::string_view;
inline constexpr std::array<string_view, 7> models = {"mlp",  "cnn",    "ttt_rnn",       "gru",
                                                      "lstm", "ttt_lm", "transformer_lm"};
inline constexpr std::array<string_view, 3> norms = {"layer", "batch", "none"};
inline constexpr std::array<string_view, 3> activations = {"relu", "gelu", "tanh"};
inline constexpr std::array<string_view, 2> inner_models = {"linear", "mlp"};
inline constexpr std::array<string_view, 2> dialects = {"causal", "video_dit"};
inline constexpr std::array<string_view, 2> encoders = {"mlp_1", "mlp_2"};
inline constexpr std::array<string_view, 2> inner_gradients = {"per_batch", "per_sequence"};
inline constexpr std::array<string_view, 2> inner_windows = {"step", "window"};
inline constexpr std::array<string_view, 7> projections = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                           "gate_proj", "up_proj", "down_proj"};
}  // namespace names

template <>
struct Fields<TttLayerSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = TttLayerSpec;
    visit(Field{"kind", "ttt_lm, transformer_lm: the inner model"}.one_of(names::inner_models).short_form(), &S::kind);
    visit(Field{"layers",
                "transformer_lm: where TTT layers are: none, all, early, middle, late, every:N, first:N, last:N or "
                "indices (negative from the end); or a list of these"}
              .of_patterns(),
          &S::layers);
    visit(Field{"base_lr", "learning rate of the inner loop; unset: 1 of linear, 0.1 of mlp, 0.01 of ttt_rnn"}.at_least(
              0),
          &S::base_lr);
    visit(Field{"mini_batch_size", "ttt_lm, transformer_lm: tokens of one inner step"}.at_least(1).at_most(65536),
          &S::mini_batch_size);
    visit(Field{"inner_layers", "kind mlp: layers of the inner model"}.at_least(2).at_most(5), &S::inner_layers);
    visit(Field{"inner_iterations", "ttt_rnn: inner steps of a time step; 1 in language models"}.at_least(1).at_most(
              1000),
          &S::inner_iterations);
    visit(Field{"inner_clip_norm", "ttt_lm, transformer_lm: largest norm of a head's inner gradient"}.above(0).or_unset(
              "none"),
          &S::inner_clip_norm);
    visit(Field{"persistent",
                "fast weights carry over: ttt_rnn to the next time step, others to the next call of a stream"},
          &S::persistent);
    visit(Field{"gate_init", "transformer_lm: initial alpha of x + tanh(alpha) TTT(x)"}, &S::gate_init);
    visit(Field{"checkpoint_group_size",
                "ttt_lm, transformer_lm: mini-batches that the backward pass computes again together"}
              .at_least(0)
              .or_zero("none"),
          &S::checkpoint_group_size);
    visit(Field{"dialect", "transformer_lm: causal, or video_dit, where a mini-batch sees its own future"}.one_of(
              names::dialects),
          &S::dialect);
    visit(Field{"share_qk", "ttt_lm: one projection and two causal convolutions give queries and keys"}, &S::share_qk);
    visit(Field{"use_gate", "ttt_lm: the output is multiplied by gelu(x Wg)"}, &S::use_gate);
    visit(Field{"pre_conv", "ttt_lm: a causal convolution before each block"}, &S::pre_conv);
    visit(Field{"encoder", "ttt_rnn: inner model of one layer or of two"}.one_of(names::encoders), &S::encoder);
    visit(Field{"decoder_ln", "ttt_rnn: layer norm of the reconstruction"}, &S::decoder_ln);
    visit(Field{"inner", "ttt_rnn: one set of fast weights for the batch, or one for each sequence"}.one_of(
              names::inner_gradients),
          &S::inner);
    visit(Field{"inner_window", "ttt_rnn: an inner loop for every time step, or for windows of them"}.one_of(
              names::inner_windows),
          &S::inner_window);
    visit(
        Field{"sequence_length", "ttt_rnn, inner_window window: time steps of a window"}.at_least(1).at_most(1'000'000),
        &S::sequence_length);
    visit(Field{"use_sgd", "ttt_rnn, inner_window window: every inner step takes its own part of the window"},
          &S::use_sgd);
  }
};

template <>
struct Fields<LoraSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = LoraSpec;
    visit(Field{"rank", "transformer_lm: rank of the update W + scaling B A"}
              .at_least(0)
              .at_most(65536)
              .or_zero("none")
              .short_form(),
          &S::rank);
    visit(Field{"scaling", "what the update is multiplied by"}, &S::scaling);
    visit(Field{"projections", "which projections have one"}.one_of(names::projections), &S::projections);
  }
};

template <>
struct Fields<ModelSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = ModelSpec;
    visit(Field{"kind",
                "mlp: linear layers; cnn: small convolutional net for images; ttt_rnn, gru, lstm: sequences; ttt_lm, "
                "transformer_lm: language"}
              .one_of(names::models)
              .short_form(),
          &S::kind);
    visit(Field{"hidden", "widths of the hidden linear layers"}.at_least(1).at_most(1'000'000), &S::hidden);
    visit(Field{"norm", "normalisation after each hidden layer"}.one_of(names::norms), &S::norm);
    visit(Field{"activation", "nonlinearity of the hidden layers"}.one_of(names::activations), &S::activation);
    visit(Field{"dropout", "probability that a hidden unit is silenced while training"}.at_least(0).below(1),
          &S::dropout);
    visit(Field{"channels", "cnn: output channels of the convolutions"}.at_least(1).at_most(100'000), &S::channels);
    visit(Field{"kernel_size", "cnn: odd width of the kernels"}.at_least(1).at_most(101), &S::kernel_size);
    visit(Field{"layers", "sequence and language models: number of layers"}.at_least(1).at_most(1000), &S::layers);
    visit(Field{"units", "ttt_rnn, gru, lstm: width of the state"}.at_least(1).at_most(1'000'000), &S::units);
    visit(Field{"bidirectional", "ttt_rnn, gru, lstm: a second direction, read out together"}, &S::bidirectional);
    visit(Field{"width", "ttt_lm, transformer_lm: width of the residual stream"}.at_least(2).at_most(1'000'000),
          &S::width);
    visit(Field{"heads", "ttt_lm, transformer_lm: heads of attention and of TTT layers"}.at_least(1).at_most(65536),
          &S::heads);
    visit(
        Field{"feed_forward", "ttt_lm, transformer_lm: hidden width of SwiGLU; 0: 8/3 of width, up to a multiple of 16"}
            .at_least(0)
            .at_most(10'000'000),
        &S::feed_forward);
    visit(Field{"tie_embeddings", "ttt_lm, transformer_lm: the output projection is the embedding"},
          &S::tie_embeddings);
    visit(Field{"rope_base", "ttt_lm, transformer_lm: base of the rotary position embedding"}.above(1), &S::rope_base);
    visit(
        Field{"checkpoint", "ttt_lm, transformer_lm: safetensors file or folder whose parameters training starts from"},
        &S::checkpoint);
    visit(Field{"ttt", "layers whose hidden state is a model trained by the forward pass"}, &S::ttt);
    visit(Field{"lora", "low-rank updates beside projections"}, &S::lora);
  }
};

}  // namespace tenfold

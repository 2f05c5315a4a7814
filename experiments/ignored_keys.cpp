#include "experiments/ignored_keys.h"

namespace tenfold {

std::span<const KindBoundKey> kind_bound_keys() {
  using Kinds = std::vector<std::string_view>;
  static const std::vector<KindBoundKey> keys = [] {
    std::vector<KindBoundKey> all;
    using KindOf = decltype(KindBoundKey::kind_of);
    const auto bind = [&](std::string_view kind_key, KindOf kind_of, const Kinds& kinds,
                          std::initializer_list<std::string_view> names) {
      for (const std::string_view name : names) all.push_back({name, kind_key, kinds, kind_of});
    };
    const KindOf dataset = [](const ExperimentSpec& s) { return s.dataset.kind; };
    const KindOf folds = [](const ExperimentSpec& s) { return s.folds.kind; };
    const KindOf model = [](const ExperimentSpec& s) { return s.model.kind; };
    const KindOf method = [](const ExperimentSpec& s) { return s.ttt.method; };
    const KindOf training = [](const ExperimentSpec& s) { return s.train.optimizer.kind; };
    const KindOf adapting = [](const ExperimentSpec& s) { return s.ttt.optimizer.kind.value_or(""); };
    const Kinds sequences = {"npz", "hdf5", "mat", "wav", "synthetic_sequences"};
    bind("dataset.kind", dataset, {"csv", "npy", "npz", "idx", "hdf5", "mat", "wav", "text", "tokens"},
         {"dataset.path"});
    bind("dataset.kind", dataset, {"npy", "idx"}, {"dataset.labels"});
    bind("dataset.kind", dataset, {"npy"}, {"dataset.groups"});
    bind("dataset.kind", dataset, {"npz"},
         {"dataset.samples_key", "dataset.labels_key", "dataset.groups_key", "dataset.offsets_key"});
    bind("dataset.kind", dataset, {"csv"},
         {"dataset.label_column", "dataset.group_column", "dataset.fold_column", "dataset.categorical_columns",
          "dataset.ignore_columns", "dataset.missing"});
    bind("dataset.kind", dataset, {"synthetic", "synthetic_sequences"},
         {"dataset.samples", "dataset.features", "dataset.classes", "dataset.group_count", "dataset.separation",
          "dataset.seed"});
    bind("dataset.kind", dataset, {"synthetic_sequences"},
         {"dataset.min_steps", "dataset.max_steps", "dataset.mean_steps"});
    bind("dataset.kind", dataset, {"hdf5", "mat"},
         {"dataset.features_key", "dataset.targets_key", "dataset.session_attribute"});
    bind("dataset.kind", dataset, {"wav"},
         {"dataset.file_pattern", "dataset.sample_rate", "dataset.mels", "dataset.frame_ms", "dataset.hop_ms"});
    bind("dataset.kind", dataset, {"text"}, {"dataset.tokenizer"});
    bind("dataset.kind", dataset, {"tokens"}, {"dataset.vocabulary"});
    bind("dataset.kind", dataset, {"text", "tokens"}, {"dataset.sequence_length"});
    bind("dataset.kind", dataset, sequences,
         {"dataset.feature_ranges", "dataset.max_length", "dataset.transform", "dataset.normalise_by",
          "dataset.length_buckets"});
    bind("folds.kind", folds, {"kfold", "stratified", "group", "stratified_group", "repeated", "held_out_class"},
         {"folds.k"});
    const Kinds recurrent = {"ttt_rnn", "gru", "lstm"}, language = {"ttt_lm", "transformer_lm"};
    bind("model.kind", model, {"mlp", "cnn"}, {"model.hidden", "model.norm", "model.activation"});
    bind("model.kind", model, {"cnn"}, {"model.channels", "model.kernel_size"});
    bind("model.kind", model, {"ttt_rnn", "gru", "lstm", "ttt_lm", "transformer_lm"}, {"model.layers"});
    bind("model.kind", model, recurrent, {"model.units", "model.bidirectional"});
    bind("model.kind", model, language,
         {"model.width", "model.heads", "model.feed_forward", "model.tie_embeddings", "model.rope_base",
          "model.checkpoint", "model.ttt.kind", "model.ttt.mini_batch_size", "model.ttt.inner_layers",
          "model.ttt.inner_clip_norm", "model.ttt.checkpoint_group_size"});
    bind("model.kind", model, {"ttt_rnn", "ttt_lm", "transformer_lm"},
         {"model.ttt.base_lr", "model.ttt.persistent", "model.ttt.inner_iterations"});
    bind("model.kind", model, {"ttt_rnn"},
         {"model.ttt.encoder", "model.ttt.decoder_ln", "model.ttt.inner", "model.ttt.inner_window",
          "model.ttt.sequence_length", "model.ttt.use_sgd"});
    bind("model.kind", model, {"transformer_lm"},
         {"model.ttt.layers", "model.ttt.gate_init", "model.ttt.dialect", "model.lora"});
    bind("model.kind", model, {"ttt_lm"}, {"model.ttt.share_qk", "model.ttt.use_gate", "model.ttt.pre_conv"});
    bind("model.kind", model, {"ttt_rnn", "ttt_lm", "transformer_lm"},
         {"diagnostics.inner_loss", "train.group_lr.ttt", "train.group_lr.base"});
    bind("model.kind", model, language, {"diagnostics.minimal_pairs"});
    bind("model.kind", model, {"transformer_lm"}, {"train.group_lr.gate", "train.group_lr.lora"});
    bind("ttt.method", method, {"entropy_diversity"}, {"ttt.diversity_weight", "ttt.adaptive_weight"});
    bind("train.optimizer.kind", training, {"sgd"}, {"train.optimizer.momentum", "train.optimizer.nesterov"});
    bind("train.optimizer.kind", training, {"adam", "adamw"},
         {"train.optimizer.beta1", "train.optimizer.beta2", "train.optimizer.eps"});
    bind("ttt.optimizer.kind", adapting, {"sgd"}, {"ttt.optimizer.momentum", "ttt.optimizer.nesterov"});
    bind("ttt.optimizer.kind", adapting, {"adam", "adamw"},
         {"ttt.optimizer.beta1", "ttt.optimizer.beta2", "ttt.optimizer.eps"});
    return all;
  }();
  return keys;
}

}  // namespace tenfold

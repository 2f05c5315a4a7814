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
    bind("dataset.kind", dataset, {"csv", "npy", "npz", "idx"}, {"dataset.path"});
    bind("dataset.kind", dataset, {"npy", "idx"}, {"dataset.labels"});
    bind("dataset.kind", dataset, {"npy"}, {"dataset.groups"});
    bind("dataset.kind", dataset, {"npz"}, {"dataset.samples_key", "dataset.labels_key", "dataset.groups_key"});
    bind("dataset.kind", dataset, {"csv"},
         {"dataset.label_column", "dataset.group_column", "dataset.fold_column", "dataset.categorical_columns",
          "dataset.ignore_columns", "dataset.missing"});
    bind("dataset.kind", dataset, {"synthetic"},
         {"dataset.samples", "dataset.features", "dataset.classes", "dataset.group_count", "dataset.separation",
          "dataset.seed"});
    bind("folds.kind", folds, {"kfold", "stratified", "group", "stratified_group", "repeated", "held_out_class"},
         {"folds.k"});
    bind("model.kind", model, {"cnn"}, {"model.channels", "model.kernel_size"});
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

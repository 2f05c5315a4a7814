#pragma once

#include <array>
#include <limits>
#include <span>
#include <string_view>

#include "experiments/metric.h"
#include "experiments/spec.h"

// The one list of an experiment file's keys. Reading and writing, the JSON Schema, dotted keys of sweeps and of
// --set, identities and the table in README.md are all made from it: a new key is a member in spec.h and a line
// here. Fields<Section>::visit calls `visit(Field, &Section::member)` for every key in the order of documentation.
namespace tenfold {

struct Field {
  std::string_view key;
  std::string_view doc;
  std::span<const std::string_view> allowed = {};  // of a text, or of each text of a list; empty: any
  double minimum = -std::numeric_limits<double>::infinity();
  double maximum = std::numeric_limits<double>::infinity();
  bool above_minimum = false;   // the minimum itself is not allowed
  bool below_maximum = false;   // the maximum itself is not allowed
  std::string_view unset_word = {};  // how an absent optional value is written, e.g. clip_norm: none
  std::string_view zero_word = {};   // how 0 is written, e.g. query_size: all
  bool shorthand = false;       // `section: value` is short for `section: {key: value}`
  bool patterns = false;        // a list of parameter patterns, in which layers:[0, 1] is one text
  // Identities leave out a key that equals the default it had when it was introduced, so that a new key does not
  // make old results stale. When a default changes, the old one is kept here (as YAML flow text).
  std::string_view introduced_as = {};

  constexpr Field one_of(std::span<const std::string_view> values) const {
    Field f = *this;
    f.allowed = values;
    return f;
  }
  constexpr Field at_least(double value) const {
    Field f = *this;
    f.minimum = value;
    return f;
  }
  constexpr Field above(double value) const {
    Field f = at_least(value);
    f.above_minimum = true;
    return f;
  }
  constexpr Field at_most(double value) const {
    Field f = *this;
    f.maximum = value;
    return f;
  }
  constexpr Field below(double value) const {
    Field f = at_most(value);
    f.below_maximum = true;
    return f;
  }
  constexpr Field or_unset(std::string_view word) const {
    Field f = *this;
    f.unset_word = word;
    return f;
  }
  constexpr Field or_zero(std::string_view word) const {
    Field f = *this;
    f.zero_word = word;
    return f;
  }
  constexpr Field short_form() const {
    Field f = *this;
    f.shorthand = true;
    return f;
  }
  constexpr Field of_patterns() const {
    Field f = *this;
    f.patterns = true;
    return f;
  }
};

// Specialised for every struct that is a section of the file.
template <class T>
struct Fields;
template <class T>
concept Section = requires {
  sizeof(Fields<T>);
};

namespace names {
using std::string_view;
inline constexpr std::array<string_view, 7> shifts = {"none",      "gaussian_noise",  "contrast", "blur",
                                                      "translate", "feature_dropout", "rotate"};
inline constexpr std::array<string_view, 6> datasets = {"digits", "csv", "npy", "npz", "idx", "synthetic"};
inline constexpr std::array<string_view, 2> missing = {"error", "drop"};
inline constexpr std::array<string_view, 3> normalisations = {"standard", "minmax", "none"};
inline constexpr std::array<string_view, 8> folds = {
    "kfold",    "stratified",          "group",          "stratified_group",
    "repeated", "leave_one_group_out", "held_out_class", "predefined"};
inline constexpr std::array<string_view, 2> models = {"mlp", "cnn"};
inline constexpr std::array<string_view, 3> norms = {"layer", "batch", "none"};
inline constexpr std::array<string_view, 3> activations = {"relu", "gelu", "tanh"};
inline constexpr std::array<string_view, 3> optimizers = {"sgd", "adam", "adamw"};
inline constexpr std::array<string_view, 4> schedules = {"constant", "cosine", "step", "plateau"};
inline constexpr std::array<string_view, 5> methods = {"source", "bn", "tent", "shot_im", "entropy_diversity"};
inline constexpr std::array<string_view, 2> modes = {"train", "eval"};
inline constexpr std::array<string_view, 2> resets = {"fold", "batch"};
inline constexpr std::array<string_view, 3> devices = {"auto", "cpu", "cuda"};
std::span<const string_view> metrics();  // of metric.h
}  // namespace names

template <>
struct Fields<ShiftSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = ShiftSpec;
    visit(Field{"kind", "what happens to the held-out fold, in raw space before normalisation"}
              .one_of(names::shifts)
              .short_form(),
          &S::kind);
    visit(Field{"severity", "strength of the shift, 1 (weak) to 5; strengths are in datasets/README.md"}
              .at_least(1)
              .at_most(5),
          &S::severity);
  }
};

template <>
struct Fields<DatasetSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = DatasetSpec;
    visit(Field{"kind", "where samples come from"}.one_of(names::datasets).short_form(), &S::kind);
    visit(Field{"path", "csv, npz: the file; npy, idx: the file of samples"}, &S::path);
    visit(Field{"labels", "npy, idx: the file of labels"}, &S::labels);
    visit(Field{"groups", "npy: the file of groups; none when empty"}, &S::groups);
    visit(Field{"samples_key", "npz: name of the array of samples"}, &S::samples_key);
    visit(Field{"labels_key", "npz: name of the array of labels"}, &S::labels_key);
    visit(Field{"groups_key", "npz: name of the array of groups; none when empty"}, &S::groups_key);
    visit(Field{"label_column", "csv: the column that holds the class"}, &S::label_column);
    visit(Field{"group_column", "csv: the column that holds the group; none when empty"}, &S::group_column);
    visit(Field{"fold_column", "csv: the column that holds the fold of folds.kind predefined"}, &S::fold_column);
    visit(Field{"categorical_columns",
                "csv: numeric columns to expand to one feature per category; text columns "
                "are found by themselves"},
          &S::categorical_columns);
    visit(Field{"ignore_columns", "csv: columns to leave out"}, &S::ignore_columns);
    visit(Field{"missing", "csv: a missing value is an error that names its line, or its row is left out"}.one_of(
              names::missing),
          &S::missing);
    visit(Field{"normalisation", "of features, fitted on the training part of each fold alone"}.one_of(
              names::normalisations),
          &S::normalisation);
    visit(Field{"samples", "synthetic: number of samples"}.at_least(1).at_most(100'000'000), &S::samples);
    visit(Field{"features", "synthetic: number of features"}.at_least(1).at_most(1'000'000), &S::features);
    visit(Field{"classes", "synthetic: number of Gaussian classes"}.at_least(2).at_most(100'000), &S::classes);
    visit(Field{"group_count", "synthetic: number of groups; 0 for none"}.at_least(0).at_most(1'000'000),
          &S::group_count);
    visit(Field{"separation", "synthetic: distance of the class means in standard deviations"}.at_least(0),
          &S::separation);
    visit(Field{"seed", "synthetic: seed of the samples"}, &S::seed);
    visit(Field{"shift", "distribution shift of the held-out fold"}, &S::shift);
  }
};

template <>
struct Fields<FoldSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = FoldSpec;
    visit(Field{"kind", "how the data are split"}.one_of(names::folds).short_form(), &S::kind);
    visit(
        Field{"k", "number of folds; leave_one_group_out and predefined take theirs from the data"}.at_least(2).at_most(
            100'000),
        &S::k);
    visit(Field{"repeats", "how many times the folds are drawn anew"}.at_least(1).at_most(100'000), &S::repeats);
    visit(Field{"seed", "seed of the split"}, &S::seed);
    visit(Field{"validation", "share of each training part that is set aside for early stopping and plateau schedules"}
              .at_least(0)
              .below(1),
          &S::validation);
  }
};

template <>
struct Fields<ModelSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = ModelSpec;
    visit(
        Field{"kind", "mlp: linear layers; cnn: small convolutional net for images"}.one_of(names::models).short_form(),
        &S::kind);
    visit(Field{"hidden", "widths of the hidden linear layers"}.at_least(1).at_most(1'000'000), &S::hidden);
    visit(Field{"norm", "normalisation after each hidden layer"}.one_of(names::norms), &S::norm);
    visit(Field{"activation", "nonlinearity of the hidden layers"}.one_of(names::activations), &S::activation);
    visit(Field{"dropout", "probability that a hidden unit is silenced while training"}.at_least(0).below(1),
          &S::dropout);
    visit(Field{"channels", "cnn: output channels of the convolutions"}.at_least(1).at_most(100'000), &S::channels);
    visit(Field{"kernel_size", "cnn: odd width of the kernels"}.at_least(1).at_most(101), &S::kernel_size);
  }
};

template <>
struct Fields<OptimizerSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = OptimizerSpec;
    visit(Field{"kind", "update rule"}.one_of(names::optimizers).short_form(), &S::kind);
    visit(Field{"lr", "learning rate"}.at_least(0), &S::lr);
    visit(Field{"weight_decay", "decoupled in adamw, added to the gradient in sgd and adam"}.at_least(0),
          &S::weight_decay);
    visit(Field{"momentum", "sgd: momentum"}.at_least(0).below(1), &S::momentum);
    visit(Field{"nesterov", "sgd: Nesterov's form of momentum"}, &S::nesterov);
    visit(Field{"beta1", "adam, adamw: decay of the mean of gradients"}.at_least(0).below(1), &S::beta1);
    visit(Field{"beta2", "adam, adamw: decay of the mean of squared gradients"}.at_least(0).below(1), &S::beta2);
    visit(Field{"eps", "adam, adamw: added to the denominator"}.above(0), &S::eps);
  }
};

template <>
struct Fields<ScheduleSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = ScheduleSpec;
    visit(Field{"kind", "how the rate changes over updates (training) or passes (adaptation)"}
              .one_of(names::schedules)
              .short_form(),
          &S::kind);
    visit(Field{"warmup_steps", "linear rise from 0 before any kind"}.at_least(0), &S::warmup_steps);
    visit(Field{"min_lr", "the rate never falls below"}.at_least(0), &S::min_lr);
    visit(Field{"step_size", "step: multiply by factor every so many steps"}.at_least(1), &S::step_size);
    visit(Field{"factor", "step, plateau: what the rate is multiplied by"}.above(0).at_most(1), &S::factor);
    visit(Field{"patience",
                "plateau: epochs (training, validation loss) or passes (adaptation, total) without "
                "improvement before the rate falls"}
              .at_least(0),
          &S::patience);
    visit(Field{"threshold", "plateau: relative improvement that counts"}.at_least(0), &S::threshold);
  }
};

template <>
struct Fields<EarlyStoppingSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = EarlyStoppingSpec;
    visit(Field{"patience", "evaluations of the validation part without improvement before training stops; 0: off"}
              .at_least(0)
              .short_form(),
          &S::patience);
    visit(Field{"min_delta", "improvement of the validation loss that counts"}.at_least(0), &S::min_delta);
  }
};

template <>
struct Fields<TrainSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = TrainSpec;
    visit(Field{"epochs", "passes over the training part"}.at_least(0), &S::epochs);
    visit(Field{"steps", "optimizer updates, instead of epochs"}.at_least(0), &S::steps);
    visit(Field{"batch_size", "samples of one update"}.at_least(1), &S::batch_size);
    visit(Field{"optimizer", "how parameters are updated"}, &S::optimizer);
    visit(Field{"schedule", "learning rate over updates"}, &S::schedule);
    visit(Field{"clip_norm", "largest norm of the gradient"}.above(0).or_unset("none"), &S::clip_norm);
    visit(Field{"label_smoothing", "share of the target spread over all classes"}.at_least(0).below(1),
          &S::label_smoothing);
    visit(Field{"early_stopping", "stop when the validation loss improves no more"}, &S::early_stopping);
    visit(Field{"eval_every_steps", "updates between evaluations of the validation part; once an epoch when unset"}
              .at_least(1),
          &S::eval_every_steps);
  }
};

template <>
struct Fields<TttOptimizerSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = TttOptimizerSpec;
    visit(Field{"kind", "update rule; unset: the method's"}.one_of(names::optimizers).short_form(), &S::kind);
    visit(Field{"weight_decay", "decoupled in adamw, added to the gradient in sgd and adam; unset: the method's"}
              .at_least(0),
          &S::weight_decay);
    visit(Field{"momentum", "sgd: momentum"}.at_least(0).below(1), &S::momentum);
    visit(Field{"nesterov", "sgd: Nesterov's form of momentum"}, &S::nesterov);
    visit(Field{"beta1", "adam, adamw: decay of the mean of gradients"}.at_least(0).below(1), &S::beta1);
    visit(Field{"beta2", "adam, adamw: decay of the mean of squared gradients"}.at_least(0).below(1), &S::beta2);
    visit(Field{"eps", "adam, adamw: added to the denominator"}.above(0), &S::eps);
  }
};

template <>
struct Fields<AdaptiveWeightSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = AdaptiveWeightSpec;
    visit(Field{"enabled", "raise the diversity weight while predictions crowd into few classes"}.short_form(),
          &S::enabled);
    visit(Field{"target", "class entropy h (0 to 1) below which the weight rises"}.at_least(0).at_most(1), &S::target);
    visit(Field{"slope", "rise per unit of h below the target"}.at_least(0), &S::slope);
    visit(Field{"max", "largest weight"}.at_least(0), &S::max);
  }
};

template <>
struct Fields<TttStopSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = TttStopSpec;
    visit(Field{"collapse_below", "stop when the class entropy h of a pass falls below; 0: off"}.at_least(0).at_most(1),
          &S::collapse_below);
    visit(Field{"patience", "stop after so many passes without improvement of the total; 0: off"}.at_least(0),
          &S::patience);
    visit(Field{"min_delta", "improvement of the total that counts"}.at_least(0), &S::min_delta);
    visit(Field{"after", "passes before patience counts"}.at_least(0), &S::after);
  }
};

template <>
struct Fields<TttSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = TttSpec;
    visit(Field{"method", "how the model adapts to the unlabelled held-out fold"}.one_of(names::methods).short_form(),
          &S::method);
    visit(Field{"diversity_weight", "entropy_diversity: weight of the diversity term"}.at_least(0),
          &S::diversity_weight);
    visit(Field{"steps", "passes over the adaptation set"}.at_least(0), &S::steps);
    visit(Field{"batch_size", "samples of one update"}.at_least(1), &S::batch_size);
    visit(Field{"lr", "learning rate of adaptation"}.at_least(0), &S::lr);
    visit(Field{"parameters",
                "what adapts: all, norm, body, last:N, first:N, layers:[i, j] or a name pattern with * "
                "and ?; or a list of these"}
              .of_patterns(),
          &S::parameters);
    visit(Field{"query_size", "samples of the held-out fold to adapt on"}.at_least(0).or_zero("all"), &S::query_size);
    visit(Field{"optimizer", "how parameters are updated; its rate is ttt.lr"}, &S::optimizer);
    visit(Field{"schedule", "learning rate over passes; unset values are the method's where the kind is"},
          &S::schedule);
    visit(Field{"clip_norm", "largest norm of the gradient"}.at_least(0).or_zero("none"), &S::clip_norm);
    visit(Field{"mode", "dropout while adapting: on in train, off in eval"}.one_of(names::modes), &S::mode);
    visit(Field{"reset", "return to the trained parameters after each fold, or after each batch"}.one_of(names::resets),
          &S::reset);
    visit(Field{"shuffle", "a new order of the adaptation set in each pass"}, &S::shuffle);
    visit(Field{"adaptive_weight", "entropy_diversity: diversity weight that follows the class entropy"},
          &S::adaptive_weight);
    visit(Field{"stop", "when adaptation ends early"}, &S::stop);
    visit(Field{"eval_every_steps",
                "passes between evaluations of the held-out fold; before and after alone when "
                "unset"}
              .at_least(1),
          &S::eval_every_steps);
  }
};

template <>
struct Fields<ResourcesSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = ResourcesSpec;
    visit(Field{"device", "auto takes the GPUs where there are some"}.one_of(names::devices), &S::device);
    visit(Field{"slots", "how many arrays run at once; 0: the GPUs, or else the cores"}.at_least(0).at_most(100'000),
          &S::slots);
    visit(Field{"max_array", "most trials computed as one array; 0: by device"}.at_least(0).at_most(100'000),
          &S::max_array);
  }
};

template <>
struct Fields<CheckpointSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = CheckpointSpec;
    visit(Field{"every_s", "seconds between checkpoints"}.above(0), &S::every_s);
    visit(Field{"every_steps", "steps between checkpoints, besides every_s"}.at_least(1), &S::every_steps);
    visit(Field{"keep", "checkpoints kept of a running fit or trial"}.at_least(1).at_most(1000), &S::keep);
    visit(Field{"keep_every_steps", "history kept beside the newest: one checkpoint every so many steps"}.at_least(1),
          &S::keep_every_steps);
  }
};

template <>
struct Fields<ExperimentSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = ExperimentSpec;
    visit(Field{"name", "name in the store; the file's name without its ending when absent"}, &S::name);
    visit(Field{"seed", "seed of initial values, batches, dropout and shift"}, &S::seed);
    visit(Field{"dataset", "samples and labels"}, &S::dataset);
    visit(Field{"folds", "how the data are split"}, &S::folds);
    visit(Field{"model", "what is trained"}, &S::model);
    visit(Field{"train", "how it is trained on the training part of each fold"}, &S::train);
    visit(Field{"ttt", "how it adapts at test time to the held-out fold"}, &S::ttt);
    visit(Field{"metrics", "what is measured before and after adaptation"}.one_of(names::metrics()), &S::metrics);
    visit(Field{"deterministic", "cnn: convolutions whose bits do not depend on the array's size; slower"},
          &S::deterministic);
    visit(Field{"retries", "how often a failed attempt is tried again"}.at_least(0).at_most(1000), &S::retries);
    visit(Field{"resources", "where it runs; changes no result"}, &S::resources);
    visit(Field{"checkpoint", "how often progress is saved; changes no result"}, &S::checkpoint);
  }
};

}  // namespace tenfold

#pragma once

#include <array>
#include <span>
#include <string_view>

#include "experiments/data_fields.h"
#include "experiments/field.h"
#include "experiments/metric.h"
#include "experiments/model_fields.h"
#include "experiments/spec.h"

// The one list of an experiment file's keys. Reading and writing, the JSON Schema, dotted keys of sweeps and of
// --set, identities and the table in README.md are all made from it: a new key is a member in spec.h and a line
// here. Fields<Section>::visit calls `visit(Field, &Section::member)` for every key in the order of documentation.
namespace tenfold {

namespace names {
using std::string_view;
inline constexpr std::array<string_view, 3> optimizers = {"sgd", "adam", "adamw"};
inline constexpr std::array<string_view, 4> schedules = {"constant", "cosine", "step", "plateau"};
inline constexpr std::array<string_view, 5> methods = {"source", "bn", "tent", "shot_im", "entropy_diversity"};
inline constexpr std::array<string_view, 2> modes = {"train", "eval"};
inline constexpr std::array<string_view, 2> resets = {"fold", "batch"};
inline constexpr std::array<string_view, 2> precisions = {"float32", "tf32"};
inline constexpr std::array<string_view, 3> nonfinite_policies = {"fail", "stop", "lower_rate"};
inline constexpr std::array<string_view, 3> devices = {"auto", "cpu", "cuda"};
std::span<const string_view> metrics();  // of metric.h
}  // namespace names

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
struct Fields<GroupRatesSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = GroupRatesSpec;
    visit(Field{"ttt", "of TTT layers"}.at_least(0), &S::ttt);
    visit(Field{"gate", "of the gates of TTT layers"}.at_least(0), &S::gate);
    visit(Field{"lora", "of low-rank updates"}.at_least(0), &S::lora);
    visit(Field{"base", "of everything else"}.at_least(0), &S::base);
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
    visit(
        Field{"parameters", "what trains: patterns as of ttt.parameters, or none, which leaves the model as it starts"}
            .of_patterns(),
        &S::parameters);
    visit(Field{"group_lr", "learning rates of groups of parameters; unset: optimizer.lr"}, &S::group_lr);
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
                "what adapts: all, norm, body, ttt, gate, lora, base, last:N, first:N, layers:[i, j] or a name pattern "
                "with * and ?; or a list of these"}
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
    visit(Field{"ranks_per_trial", "slots that share the batches of one trial; changes the last digits of its results"}
              .at_least(1)
              .at_most(4096),
          &S::ranks_per_trial);
    visit(Field{"slots_per_gpu", "arrays that share a GPU"}.at_least(1).at_most(64), &S::slots_per_gpu);
    visit(Field{"stall_limit_s", "a trainer whose step stands still for so long is replaced; 0: never"}.at_least(0),
          &S::stall_limit_s);
    visit(Field{"requeues", "how often a cluster job that reached its time limit is queued again"}.at_least(0).at_most(
              10'000),
          &S::requeues);
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
struct Fields<NonFiniteSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = NonFiniteSpec;
    visit(Field{"policy",
                "fail; stop where it is and keep what was finite; or go back to the last checkpoint with a lower rate"}
              .one_of(names::nonfinite_policies)
              .short_form(),
          &S::policy);
    visit(Field{"factor", "lower_rate: what the learning rate is multiplied by"}.above(0).below(1), &S::factor);
    visit(Field{"times", "lower_rate: how often, before the trial fails"}.at_least(1).at_most(100), &S::times);
  }
};

template <>
struct Fields<InnerLossSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = InnerLossSpec;
    visit(Field{"every", "record at every n-th evaluation of the held-out fold"}
              .at_least(0)
              .or_zero("never")
              .short_form(),
          &S::every);
    visit(Field{"max_positions", "positions of a sequence that are recorded"}.at_least(1).at_most(10'000'000),
          &S::max_positions);
    visit(Field{"layers", "which TTT layers: all, or indices (negative from the end)"}.of_patterns(), &S::layers);
  }
};

template <>
struct Fields<DiagnosticsSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = DiagnosticsSpec;
    visit(Field{"inner_loss", "inner losses l0, lprev and lafter of TTT layers by position"}, &S::inner_loss);
    visit(Field{"minimal_pairs", "JSONL file of pairs of texts; how often the model prefers the right one"},
          &S::minimal_pairs);
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
    visit(Field{"diagnostics", "whether the inner loop of TTT layers learns"}, &S::diagnostics);
    visit(Field{"deterministic", "cnn: convolutions whose bits do not depend on the array's size; slower"},
          &S::deterministic);
    visit(
        Field{"precision", "of matrix products on GPUs: tf32 rounds their inputs to 10 bits of mantissa and is faster"}
            .one_of(names::precisions),
        &S::precision);
    visit(Field{"retries", "how often a failed attempt is tried again"}.at_least(0).at_most(1000), &S::retries);
    visit(Field{"on_nonfinite", "what becomes of a trial whose loss is NaN or infinite"}, &S::on_nonfinite);
    visit(Field{"resources", "where it runs"}, &S::resources);
    visit(Field{"checkpoint", "how often progress is saved; changes no result"}, &S::checkpoint);
  }
};

}  // namespace tenfold

#include "experiments/method_defaults.h"

#include <string>

#include "experiments/error.h"
#include "experiments/experiment.h"
#include "experiments/spec_access.h"

namespace tenfold {
namespace {

// Values no field allows: "not given".
constexpr int kUnsetInt = -1;
constexpr double kUnsetNumber = -1.0;

template <class T>
void fill(std::optional<T>& value, T otherwise) {
  if (!value) value = std::move(otherwise);
}

// Keys that were not given take the method's value where the kind is the method's, else the schedule's own default.
ScheduleSpec filled(ScheduleSpec given, const ScheduleSpec& method) {
  if (given.kind.empty()) given.kind = method.kind;
  ScheduleSpec base;
  if (given.kind == method.kind) base = method;
  if (given.warmup_steps == kUnsetInt) given.warmup_steps = base.warmup_steps;
  if (given.min_lr == kUnsetNumber) given.min_lr = base.min_lr;
  if (given.step_size == kUnsetInt) given.step_size = base.step_size;
  if (given.factor == kUnsetNumber) given.factor = base.factor;
  if (given.patience == kUnsetInt) given.patience = base.patience;
  if (given.threshold == kUnsetNumber) given.threshold = base.threshold;
  return given;
}

}  // namespace

ScheduleSpec unset_schedule() {
  ScheduleSpec schedule;
  schedule.kind.clear();
  schedule.warmup_steps = kUnsetInt;
  schedule.min_lr = kUnsetNumber;
  schedule.step_size = kUnsetInt;
  schedule.factor = kUnsetNumber;
  schedule.patience = kUnsetInt;
  schedule.threshold = kUnsetNumber;
  return schedule;
}

MethodDefaults method_defaults(std::string_view method) {
  const ScheduleSpec constant;
  // The trained model as it is: the baseline of every table.
  if (method == "source") return {0, 64, 0.0, "all", 0, "adamw", 0.0, 0.0, "eval", false, constant, false};
  // Batch normalisation with the statistics of the test batch (Schneider et al. 2020, arXiv 2006.16971; Nado et
  // al. 2020, arXiv 2006.10963): one pass, no gradient.
  if (method == "bn") return {1, 64, 0.0, "norm", 0, "adamw", 0.0, 0.0, "eval", false, constant, false};
  // Tent (Wang et al. 2021, arXiv 2006.10726, section 4): Adam at 1e-3 without weight decay, online, in the order of
  // the data, one update per batch; affine parameters of norms. Batch statistics of a batch norm are part of the
  // method and do not depend on `mode`, which here means dropout alone.
  if (method == "tent") return {1, 64, 1e-3, "norm", 0, "adam", 0.0, 0.0, "eval", false, constant, true};
  // Information maximisation of SHOT (Liang et al. 2020, arXiv 2002.08546, section 4.2): SGD with momentum 0.9, weight
  // decay 1e-3, 15 epochs of batches of 64, everything but the classifier; the rate is the paper's 1e-2 times its
  // 0.1 for layers that were trained before. The paper's slow decay of the rate is left out.
  if (method == "shot_im") return {15, 64, 1e-3, "body", 0, "sgd", 1e-3, 0.0, "train", true, constant, true};
  if (method == "entropy_diversity") {
    // The reference run of entropy and diversity: AdamW, ReduceLROnPlateau on the pass's total.
    ScheduleSpec plateau;
    plateau.kind = "plateau";
    plateau.factor = 0.8;
    plateau.patience = 20;
    plateau.min_lr = 1e-6;
    return {50, 64, 3e-5, "all", 750, "adamw", 1e-5, 1.0, "train", true, plateau, true};
  }
  throw Error(ErrorKind::internal, "no defaults for the adaptation method " + std::string(method));
}

void resolve_method_defaults(ExperimentSpec& spec) {
  TttSpec& ttt = spec.ttt;
  const MethodDefaults defaults = method_defaults(ttt.method);
  // A sweep over methods may give steps for all of them; those that do not adapt keep their own.
  if (!defaults.adapts) ttt.steps = defaults.steps;
  fill(ttt.steps, defaults.steps);
  fill(ttt.batch_size, defaults.batch_size);
  fill(ttt.lr, defaults.lr);
  fill(ttt.parameters, std::vector<std::string>{defaults.parameters});
  fill(ttt.query_size, defaults.query_size);
  fill(ttt.optimizer.kind, std::string(defaults.optimizer));
  fill(ttt.optimizer.weight_decay, defaults.weight_decay);
  fill(ttt.clip_norm, defaults.clip_norm);
  fill(ttt.mode, std::string(defaults.mode));
  fill(ttt.reset, std::string("fold"));
  fill(ttt.shuffle, defaults.shuffle);
  const ModelSpec& model = spec.model;
  if (model.kind == "ttt_rnn" || model.kind == "ttt_lm" || model.kind == "transformer_lm")
    fill(spec.model.ttt.base_lr, default_inner_rate(model));
  ttt.schedule = filled(ttt.schedule ? *ttt.schedule : unset_schedule(), defaults.schedule);
}

}  // namespace tenfold

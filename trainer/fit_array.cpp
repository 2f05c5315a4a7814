#include "trainer/fit_array.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <set>

#include "experiments/metric.h"
#include "experiments/plan.h"
#include "trainer/checkpoint.h"
#include "trainer/fit_batches.h"
#include "trainer/fit_checkpoint.h"
#include "trainer/fit_member.h"
#include "trainer/gates.h"
#include "trainer/kept_parameters.h"
#include "trainer/member_end.h"
#include "trainer/optimizer.h"
#include "trainer/predictions.h"
#include "trainer/schedule.h"
#include "trainer/training_data.h"

namespace tenfold {
namespace {

constexpr double kBatchNormMomentum = 0.1;  // of the running statistics, as torch.nn.BatchNorm1d
constexpr int kMetricColumns = 2;           // loss, gradient norm

bool keeps_best(const std::vector<ArrayMember>& members) {
  return std::any_of(members.begin(), members.end(),
                     [](const ArrayMember& member) { return member.spec.train.early_stopping.patience > 0; });
}

class FitArray {
 public:
  FitArray(const ArrayContext& context, std::vector<ArrayMember> members);
  void run();

 private:
  std::int64_t members() const { return static_cast<std::int64_t>(members_.size()); }
  FitMember& member(std::int64_t k) { return members_[static_cast<std::size_t>(k)]; }
  FitState fit_state() {
    return {*model_,
            state_,
            trained_,
            optimizer_,
            kept_.best_parameters(),
            kept_.best_buffers(),
            members_,
            kept_.last_finite()};
  }
  void resume();
  void compute_step(std::int64_t length);
  std::int64_t block_length() const;
  void fill_tables(std::int64_t steps);
  std::int64_t replay_block(std::int64_t steps);
  void report_block(std::int64_t steps, double wall_s);
  void report_groups(std::int64_t k, std::int64_t rows);
  using Selection = std::function<bool(const FitMember&)>;
  bool evaluate(Phase phase, const Selection& due);
  void evaluate_validation();
  void finish_members();
  void checkpoint();
  void checkpoint_trained(const std::vector<std::int64_t>& finished);
  void report_outcome(std::int64_t k, TrialStatus status);
  bool all_at_rest() const;

  const ArrayContext& context_;
  Compute& compute_;
  std::vector<FitMember> members_;
  std::shared_ptr<const DeviceDataset> dataset_;
  TrainingData data_;
  FitBatches batches_;
  std::unique_ptr<Model> model_;
  ModelState state_;
  std::vector<std::size_t> trained_;  // places of the parameters that train
  KeptParameters kept_;
  StepTables tables_;
  DropoutMasks masks_;
  StackedOptimizer optimizer_;
  StepCounter counter_;
  at::Tensor base_lr_;      // (K) of the inner loop, where there is one
  at::Tensor group_norms_;  // (T, K, 2 groups): of gradients, of changes; undefined where all is one group
  at::Tensor metrics_;      // (T, K, kMetricColumns)
  std::map<std::int64_t, std::function<void()>> replay_;  // a step, by padded length
  std::int64_t step_ = 0;                                 // updates done
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  Progress progress_;
  CheckpointClock clock_;
};

FitArray::FitArray(const ArrayContext& context, std::vector<ArrayMember> members)
    : context_(context),
      compute_(context.compute),
      dataset_(members.front().fold->dataset),
      data_(members, compute_.device()),
      batches_(members.front()),
      model_(make_model(members.front().spec.model, model_data(*dataset_->host), members.front().spec.deterministic)),
      state_(initial_states(members, model_->layout(), compute_.device())),
      trained_(trained_parameters(model_->layout(), members.front().spec.train)),
      kept_(state_, trained_, keeps_best(members), members.front().spec.on_nonfinite.policy == "stop"),
      tables_(compute_, kStepBlock, static_cast<std::int64_t>(members.size()), members.front().spec.train.batch_size),
      masks_(compute_,
             dropout_tables(members, one_lane_each(members.size()), Purpose::train_dropout, compute_.device())),
      optimizer_(compute_, members.front().spec.train.optimizer.kind != "sgd", rules_of(members),
                 chosen(state_.parameters, trained_), optimizer_groups(members, model_->layout(), trained_)),
      counter_(compute_.make_counter()),
      clock_(members.front().spec.checkpoint, 0) {
  base_lr_ = inner_rates(members, one_lane_each(members.size()), compute_.device());
  for (const std::size_t i : trained_) state_.parameters[i].requires_grad_(true);
  for (ArrayMember& base : members) {
    FitMember fit;
    const std::int64_t epoch_n = epoch_samples(*dataset_->host, base.fold->split, *base.fold->splits);
    fit.epoch_updates = train_updates_per_epoch(base.spec, epoch_n);
    fit.total_updates = train_updates(base.spec, epoch_n);
    fit.eval_every = base.spec.train.eval_every_steps.value_or(static_cast<int>(fit.epoch_updates));
    fit.base = std::move(base);
    members_.push_back(std::move(fit));
  }
  metrics_ =
      at::zeros({kStepBlock, this->members(), kMetricColumns}, at::TensorOptions(at::kFloat).device(compute_.device()));
  if (optimizer_.group_grad_norms().defined())
    group_norms_ = at::zeros({kStepBlock, this->members(), 2 * kParameterGroups}, metrics_.options());
}

void FitArray::resume() {
  CheckpointReader reader;
  for (std::int64_t k = 0; k < members(); ++k) {
    const auto& resume = member(k).base.job.resume;
    if (!resume) continue;
    restore_fit(fit_state(), k, reader);
    step_ = resume->step;
  }
  clock_.written(step_);
}

// One optimizer update of every member: what a CUDA graph captures.
void FitArray::compute_step(std::int64_t length) {
  const at::Tensor indices = compute_.row(tables_.indices, counter_);
  const at::Tensor weights = compute_.row(tables_.weights, counter_);
  ForwardMode mode{&masks_, &counter_, true, weights, compute_.row(tables_.momentum, counter_), nullptr, base_lr_};
  if (LastFinite* last = kept_.last_finite()) last->begin(state_);
  const at::Tensor logits = model_->forward(state_, data_.gather(indices, weights, length), mode);
  const layers::LossAndGradient loss = data_.loss(logits.detach(), indices, weights, length);
  const std::vector<at::Tensor> gradients =
      torch::autograd::grad({logits}, chosen(state_.parameters, trained_), {loss.logit_gradient});
  at::NoGradGuard no_grad;
  const at::Tensor active = compute_.row(tables_.active, counter_);
  const at::Tensor norm = optimizer_.update(gradients, compute_.row(tables_.lr, counter_), active);
  if (LastFinite* last = kept_.last_finite()) last->end(loss.loss, norm, active);
  compute_.store(metrics_, counter_, at::stack({loss.loss, norm}, -1));
  if (group_norms_.defined())
    compute_.store(group_norms_, counter_,
                   at::cat({optimizer_.group_grad_norms(), optimizer_.group_update_norms()}, -1));
}

// Steps until the next one that the host must look at.
std::int64_t FitArray::block_length() const {
  std::int64_t length = std::min(kStepBlock, clock_.steps_until_due(step_));
  for (const FitMember& fit : members_) {
    if (fit.at_rest(step_)) continue;
    length = std::min(length, fit.total_updates - step_);
    if (!fit.base.fold->split.validation.empty()) length = std::min(length, fit.eval_every - step_ % fit.eval_every);
  }
  return length;
}

void FitArray::fill_tables(std::int64_t steps) {
  tables_.clear();
  for (std::int64_t k = 0; k < members(); ++k) {
    FitMember& fit = member(k);
    const TrainSpec& train = fit.base.spec.train;
    for (std::int64_t t = 0; t < steps && !fit.at_rest(step_ + t); ++t) {
      const std::int64_t epoch = (step_ + t) / fit.epoch_updates;
      const FitBatches::Taken taken = batches_.take(fit, epoch, (step_ + t) % fit.epoch_updates);
      double lr = scheduled_lr(train.schedule, train.optimizer.lr, step_ + t, fit.total_updates);
      if (train.schedule.kind == "plateau") lr = fit.progression.plateau.lr(train.schedule, lr);
      tables_.set(t, k, taken.samples, lr * fit.base.job.rate_scale, epoch, taken.position, kBatchNormMomentum);
    }
  }
  tables_.upload(masks_.tables());
}

// Returns the steps done: fewer where a drain came.
std::int64_t FitArray::replay_block(std::int64_t steps) {
  compute_.set_counter(counter_, 0);
  const bool looks_every_step = compute_.device().is_cpu();
  for (std::int64_t t = 0; t < steps; ++t) {
    if (looks_every_step) {
      if (context_.reporter.drain_requested()) return t;
      progress_.step = step_ + t;
      context_.reporter.progress(progress_);
    }
    // Folds of sequences advance in step: the length is that of any member.
    const std::int64_t epoch_updates = members_.front().epoch_updates;
    replay_.at(batches_.padded_length((step_ + t) / epoch_updates, (step_ + t) % epoch_updates))();
  }
  compute_.synchronise();
  return steps;
}

void FitArray::report_block(std::int64_t steps, double wall_s) {
  const at::Tensor host = metrics_.narrow(0, 0, steps).cpu();
  const float* values = host.const_data_ptr<float>();
  std::int64_t updates = 0, reporting = 0;
  double losses = 0;
  for (std::int64_t k = 0; k < members(); ++k) {
    FitMember& fit = member(k);
    std::vector<TrainStepRow> rows;
    for (std::int64_t t = 0; t < steps && !fit.at_rest(step_ + t); ++t) {
      const float* value = values + (t * members() + k) * kMetricColumns;
      TrainStepRow row{};
      row.step = step_ + t + 1;
      row.epoch = (step_ + t) / fit.epoch_updates;
      row.loss = value[0];
      row.lr = tables_.rate(t, k);
      row.grad_norm = value[1];
      row.wall_s = wall_s / static_cast<double>(steps * members());
      fit.wall_s += row.wall_s;
      const bool finite_loss = std::isfinite(row.loss);
      bool kept = false;
      if (const double culprit = finite_loss ? row.grad_norm : row.loss; !std::isfinite(culprit))
        // A loss that is not finite is of parameters that are none to keep, a gradient spoils only what comes after it.
        kept = kept_.diverged(fit, k,
                              std::string("the training ") + (finite_loss ? "gradient" : "loss") + " became " +
                                  (std::isnan(culprit) ? "NaN" : "infinite") + " at update " + std::to_string(row.step),
                              row.step, std::max<std::int64_t>(0, row.step - (finite_loss ? 1 : 2)), state_);
      if (!kept) rows.push_back(row);
    }
    if (rows.empty()) continue;
    updates += static_cast<std::int64_t>(rows.size());
    losses += rows.back().loss;
    reporting += 1;
    context_.reporter.rows(static_cast<std::uint32_t>(k), std::span<const TrainStepRow>(rows));
    report_groups(k, static_cast<std::int64_t>(rows.size()));
  }
  progress_.step = step_ + steps;
  progress_.total = losses / static_cast<double>(reporting);
  progress_.updates_per_s = wall_s > 0 ? static_cast<double>(updates) / wall_s : 0;
  context_.reporter.progress(progress_);
}

// Of the first `count` steps of a block: norms by group, where a model has several.
void FitArray::report_groups(std::int64_t k, std::int64_t count) {
  if (!group_norms_.defined()) return;
  const at::Tensor host = group_norms_.narrow(0, 0, count).cpu();
  std::set<ParameterGroup> groups;
  for (const std::size_t i : trained_) groups.insert(model_->layout().parameters[i].group);
  std::vector<GroupStepRow> rows;
  for (std::int64_t t = 0; t < count; ++t) {
    const float* norms = host.const_data_ptr<float>() + (t * members() + k) * 2 * kParameterGroups;
    for (const ParameterGroup group : groups) {
      const auto g = static_cast<std::int32_t>(group);
      rows.push_back({step_ + t + 1, norms[g], norms[kParameterGroups + g], g, 0});
    }
  }
  context_.reporter.rows(static_cast<std::uint32_t>(k), std::span<const GroupStepRow>(rows));
}

// Metrics on the training or the validation part of those that are due. Whether one of them was put back instead.
bool FitArray::evaluate(Phase phase, const Selection& due) {
  std::vector<std::vector<std::int64_t>> rows;
  bool any = false;
  for (const FitMember& fit : members_) {
    const Split& split = fit.base.fold->split;
    rows.push_back(!due(fit) ? std::vector<std::int64_t>{} : phase == Phase::train ? split.train : split.validation);
    any |= !rows.back().empty();
  }
  if (!any) return false;
  bool put_back = false;
  const Dataset& host = *dataset_->host;
  const EvaluationPlan plan =
      evaluation_plan(*model_, dataset_->table, dataset_->length_bounds, members_.front().base.spec.train.batch_size);
  ForwardMode mode;
  mode.base_lr = base_lr_;
  const auto gather = [&](const at::Tensor& indices, const at::Tensor& weight, std::int64_t length) {
    return data_.gather(indices, weight, length);
  };
  const std::vector<SamplePredictions> predictions =
      predict(*model_, state_, rows, gather, dataset_->table, plan, mode);
  for (std::int64_t k = 0; k < members(); ++k) {
    const auto index = static_cast<std::size_t>(k);
    if (rows[index].empty()) continue;
    FitMember& fit = members_[index];
    const std::int64_t step = fit.updates_done(step_);
    if (!predictions[index].finite()) {
      put_back |=
          kept_.diverged(fit, k, "the trained model's predictions are not finite after update " + std::to_string(step),
                         step, step - 1, state_);
      continue;
    }
    const auto metrics = metrics_of(predictions[index], labels_of(host, rows[index]), host, training_metrics(),
                                    /*held_out_class=*/-1, phase, step);
    context_.reporter.rows(static_cast<std::uint32_t>(k), std::span<const EvaluationRow>(metrics));
    if (step > fit.gates_at) {
      const auto gates = gate_rows(model_->layout(), state_, k, step);
      context_.reporter.rows(static_cast<std::uint32_t>(k), std::span<const GateRow>(gates));
      fit.gates_at = step;
    }
    fit.measured |= phase == Phase::train;
    if (phase == Phase::validation) kept_.look_at_validation(fit, k, metrics.back().value, step_, state_);
  }
  return put_back;
}

void FitArray::evaluate_validation() {
  evaluate(Phase::validation, [&](const FitMember& fit) {
    return !fit.over && fit.failure.empty() && fit.progression.finished_at < 0 && step_ <= fit.total_updates &&
           (step_ % fit.eval_every == 0 || step_ == fit.total_updates);
  });
}

// Those that have come to rest leave the array: their parameters, their rows and their outcome are final, and no later
// checkpoint counts for them.
void FitArray::finish_members() {
  const auto ends = [&](const FitMember& fit) { return !fit.over && fit.at_rest(step_); };
  if (std::none_of(members_.begin(), members_.end(), ends)) return;
  const auto due = [&](const FitMember& fit) {
    return ends(fit) && fit.failure.empty() && !fit.complete && !fit.measured;
  };
  if (evaluate(Phase::train, due)) evaluate(Phase::train, due);
  share_remaining_time(members_, start_);
  std::vector<std::int64_t> trained;
  for (std::int64_t k = 0; k < members(); ++k)
    if (ends(member(k)) && member(k).failure.empty() && !member(k).complete) trained.push_back(k);
  if (!trained.empty()) checkpoint_trained(trained);
  for (std::int64_t k = 0; k < members(); ++k)
    if (ends(member(k))) report_outcome(k, TrialStatus::done);
}

void FitArray::checkpoint() {
  context_.reporter.checkpoint(write_checkpoint(context_.job, step_, save_fit(fit_state())));
  clock_.written(step_);
}

// What trials start from, of those that have finished.
void FitArray::checkpoint_trained(const std::vector<std::int64_t>& finished) {
  CheckpointNotice notice = write_checkpoint(context_.job, step_, save_trained(fit_state(), finished), "-trained");
  notice.last = true;
  notice.members.assign(finished.begin(), finished.end());
  context_.reporter.checkpoint(notice);
}

void FitArray::report_outcome(std::int64_t k, TrialStatus status) {
  report_end(context_, member(k), static_cast<std::size_t>(k), status, member(k).stopped,
             member(k).updates_done(step_));
}

bool FitArray::all_at_rest() const {
  return std::all_of(members_.begin(), members_.end(), [&](const FitMember& fit) { return fit.at_rest(step_); });
}

void FitArray::run() {
  resume();
  for (const FitMember& fit : members_) progress_.steps = std::max(progress_.steps, fit.total_updates);
  progress_.entropy = progress_.diversity = progress_.total = std::numeric_limits<double>::quiet_NaN();
  finish_members();
  tables_.clear();
  tables_.upload(masks_.tables());
  if (!all_at_rest())
    for (const std::int64_t length : batches_.padded_lengths())
      replay_[length] = compute_.repeatable([this, length] { compute_step(length); }, counter_);
  while (!all_at_rest()) {
    const std::int64_t steps = block_length();
    fill_tables(steps);
    const auto start = std::chrono::steady_clock::now();
    const std::int64_t done = replay_block(steps);
    if (done > 0) {
      report_block(done, seconds_since(start));
      step_ += done;
      evaluate_validation();
      finish_members();
    }
    if (all_at_rest()) return;
    const bool drain = context_.reporter.drain_requested();
    if (drain || clock_.due(step_)) checkpoint();
    if (!drain) continue;
    share_remaining_time(members_, start_);
    for (std::int64_t k = 0; k < members(); ++k)
      if (!member(k).over) report_outcome(k, TrialStatus::stopped);
    return;
  }
}

}  // namespace

void run_fit_array(const ArrayContext& context, std::vector<ArrayMember> members) {
  FitArray(context, std::move(members)).run();
}

}  // namespace tenfold

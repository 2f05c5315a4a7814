#include "trainer/fit_array.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <set>

#include "experiments/metric.h"
#include "experiments/plan.h"
#include "trainer/agreement.h"
#include "trainer/checkpoint.h"
#include "trainer/fit_batches.h"
#include "trainer/fit_checkpoint.h"
#include "trainer/fit_member.h"
#include "trainer/fit_report.h"
#include "trainer/gates.h"
#include "trainer/gradient_buckets.h"
#include "trainer/kept_parameters.h"
#include "trainer/member_end.h"
#include "trainer/optimizer.h"
#include "trainer/optional_checkpoint.h"
#include "trainer/predictions.h"
#include "trainer/schedule.h"
#include "trainer/training_data.h"

namespace tenfold {
namespace {

constexpr double kBatchNormMomentum = 0.1;  // of the running statistics, as torch.nn.BatchNorm1d

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
  void prepare_steps();
  void compute_step(std::int64_t length);
  std::vector<at::Tensor> gradients(const at::Tensor& logits, layers::LossAndGradient& loss);
  std::int64_t block_length() const;
  void fill_tables(std::int64_t steps);
  std::int64_t replay_block(std::int64_t steps);
  using Selection = std::function<bool(const FitMember&)>;
  bool evaluate(Phase phase, const Selection& due);
  void evaluate_validation();
  void finish_members();
  void checkpoint();
  void checkpoint_trained(const std::vector<std::int64_t>& finished);
  void report_outcome(std::int64_t k, TrialStatus status);
  void stop();
  void advance();
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
  at::Tensor base_lr_;  // (K) of the inner loop, where there is one
  std::optional<FitReport> report_;
  std::optional<GradientBuckets> buckets_;                // in a group
  double step_s_ = 0;                                     // the last block's, a step
  std::map<std::int64_t, std::function<void()>> replay_;  // a step, by padded length
  std::int64_t step_ = 0;                                 // updates done
  std::int64_t resumed_ = 0;                              // of them before this attempt
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
      tables_(compute_, kStepBlock, static_cast<std::int64_t>(members.size()), members.front().spec.train.batch_size,
              context.share()),
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
  std::set<ParameterGroup> groups;
  for (const std::size_t i : trained_) groups.insert(model_->layout().parameters[i].group);
  report_.emplace(context_, members_, tables_, optimizer_, std::vector(groups.begin(), groups.end()),
                  [this](FitMember& fit, std::int64_t k, const std::string& what, std::int64_t at, std::int64_t kept) {
                    return kept_.diverged(fit, k, what, at, kept, state_);
                  });
  if (context_.group != nullptr && !trained_.empty())
    buckets_.emplace(*context_.group, chosen(state_.parameters, trained_), this->members(), context_.bucket_bytes);
}

void FitArray::resume() {
  CheckpointReader reader;
  for (std::int64_t k = 0; k < members(); ++k) {
    const auto& resume = member(k).base.job.resume;
    if (!resume) continue;
    restore_fit(fit_state(), k, reader);
    step_ = resume->step;
  }
  resumed_ = step_;
  clock_.written(step_);
}

// One optimizer update of every member: what a CUDA graph captures.
void FitArray::compute_step(std::int64_t length) {
  const at::Tensor indices = compute_.row(tables_.indices, counter_);
  const at::Tensor weights = compute_.row(tables_.weights, counter_);
  ForwardMode mode{&masks_, &counter_, true,          weights, compute_.row(tables_.momentum, counter_),
                   nullptr, base_lr_,  context_.group};
  if (LastFinite* last = kept_.last_finite()) last->begin(state_);
  const at::Tensor logits = model_->forward(state_, data_.gather(indices, weights, length), mode);
  const at::Tensor labels = buckets_ ? compute_.row(tables_.labels, counter_) : at::Tensor();
  layers::LossAndGradient loss = data_.loss(logits.detach(), indices, weights, length, labels);
  const std::vector<at::Tensor> gradients = this->gradients(logits, loss);
  at::NoGradGuard no_grad;
  const at::Tensor active = compute_.row(tables_.active, counter_);
  const at::Tensor norm = optimizer_.update(gradients, compute_.row(tables_.lr, counter_), active);
  if (LastFinite* last = kept_.last_finite()) last->end(loss.loss, norm, active);
  report_->store(counter_, loss.loss, norm);
}

// Of the trained parameters; in a group, like the loss, of the whole batch.
std::vector<at::Tensor> FitArray::gradients(const at::Tensor& logits, layers::LossAndGradient& loss) {
  if (!buckets_) return torch::autograd::grad({logits}, chosen(state_.parameters, trained_), {loss.logit_gradient});
  std::vector<at::Tensor> gradients = buckets_->sum(logits, loss.logit_gradient, loss.loss);
  loss.loss = buckets_->summed_extra();
  return gradients;
}

// Steps until the next one that the host must look at: in about a second, for a GPU or a group is asked to stop, and
// the clock for checkpoints looked at, only between blocks.
std::int64_t FitArray::block_length() const {
  std::int64_t length = std::min(kStepBlock, clock_.steps_until_due(step_));
  length = std::clamp<std::int64_t>(step_s_ > 0 ? static_cast<std::int64_t>(kBlock_s / step_s_) : 1, 1, length);
  for (const FitMember& fit : members_) {
    if (fit.at_rest(step_)) continue;
    length = std::min(length, fit.total_updates - step_);
    if (!fit.base.fold->split.validation.empty()) length = std::min(length, fit.eval_every - step_ % fit.eval_every);
  }
  return context_.leaders(length);
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
      tables_.set(t, k, taken.samples, lr * fit.base.job.rate_scale, epoch, taken.position, kBatchNormMomentum,
                  buckets_ ? data_.labels_in(taken.samples) : 0);
    }
  }
  tables_.upload(masks_.tables());
}

// Returns the steps done: fewer where a drain came.
std::int64_t FitArray::replay_block(std::int64_t steps) {
  compute_.set_counter(counter_, 0);
  const bool looks_every_step = compute_.device().is_cpu();
  const WatchedWork watched(context_.group, step_);
  for (std::int64_t t = 0; t < steps; ++t) {
    if (looks_every_step) {
      if (context_.group == nullptr && context_.reporter.drain_requested()) return t;
      progress_.step = step_ + t;
      context_.reporter.progress(progress_);
    }
    // Folds of sequences advance in step: the length is that of any member.
    const std::int64_t epoch_updates = members_.front().epoch_updates;
    replay_.at(batches_.padded_length((step_ + t) / epoch_updates, (step_ + t) % epoch_updates))();
    if (context_.group != nullptr) context_.group->progressed();
  }
  compute_.synchronise();
  return steps;
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
  EvaluationPlan plan =
      evaluation_plan(*model_, dataset_->table, dataset_->length_bounds, members_.front().base.spec.train.batch_size);
  plan.group = context_.group;
  // The final one may take long. That of the validation part is over soon, and its rows belong to a step.
  if (phase == Phase::train) plan.give_up = drain_watch(context_);
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
  share_remaining_time(members_, start_);
  for (std::int64_t k = 0; k < members(); ++k)  // before the evaluation, for a drain may end that
    if (ends(member(k)) && !member(k).failure.empty()) report_outcome(k, TrialStatus::failed);
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
  if (context_.group != nullptr) expect_agreement(*context_.group, state_.parameters);
  if (context_.leads()) context_.reporter.checkpoint(try_checkpoint(context_.job, step_, save_fit(fit_state(), step_)));
  clock_.written(step_);
}

// What trials start from, of those that have finished.
void FitArray::checkpoint_trained(const std::vector<std::int64_t>& finished) {
  if (!context_.leads()) return;
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

// Every padded length has a step of its own. Nobody updates yet.
void FitArray::prepare_steps() {
  tables_.clear();
  tables_.upload(masks_.tables());
  if (all_at_rest()) return;
  const WatchedWork watched(context_.group);
  for (const std::int64_t length : batches_.padded_lengths()) {
    replay_[length] = compute_.repeatable([this, length] { compute_step(length); }, counter_);
    if (context_.group != nullptr) context_.group->progressed();
  }
}

// After a drain.
void FitArray::stop() {
  share_remaining_time(members_, start_);
  for (std::int64_t k = 0; k < members(); ++k)
    if (!member(k).over) report_outcome(k, TrialStatus::stopped);
}

void FitArray::run() {
  resume();
  context_.await_all();
  try {
    advance();
  } catch (const EvaluationGivenUp&) {
    // Where it went on from may not know of what was reported since.
    const bool reported =
        std::any_of(members_.begin(), members_.end(), [](const FitMember& fit) { return fit.measured && !fit.over; });
    if (step_ > resumed_ || reported) checkpoint();
    stop();
  }
}

void FitArray::advance() {
  for (const FitMember& fit : members_) progress_.steps = std::max(progress_.steps, fit.total_updates);
  progress_.entropy = progress_.diversity = progress_.total = std::numeric_limits<double>::quiet_NaN();
  finish_members();
  prepare_steps();
  while (!all_at_rest()) {
    const std::int64_t steps = block_length();
    fill_tables(steps);
    const auto start = std::chrono::steady_clock::now();
    const std::int64_t done = replay_block(steps);
    if (done > 0) {
      const double wall_s = seconds_since(start);
      step_s_ = wall_s / static_cast<double>(done);
      report_->report(step_, done, wall_s, progress_);
      step_ += done;
      evaluate_validation();
      finish_members();
    }
    if (all_at_rest()) return;
    const LeadersWish wish = leaders_wish(context_, clock_.due(step_));
    const bool drain = wish.drain;
    if (step_ > resumed_ && (drain || wish.checkpoint)) checkpoint();
    if (drain) return stop();
  }
}

}  // namespace

void run_fit_array(const ArrayContext& context, std::vector<ArrayMember> members) {
  FitArray(context, std::move(members)).run();
}

}  // namespace tenfold

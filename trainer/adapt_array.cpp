#include "trainer/adapt_array.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <limits>

#include "experiments/error.h"
#include "trainer/adapt_checkpoint.h"
#include "trainer/adapt_members.h"
#include "trainer/checkpoint.h"
#include "trainer/classification_metrics.h"
#include "trainer/evaluation.h"
#include "trainer/lane_states.h"
#include "trainer/member_end.h"
#include "trainer/optimizer.h"
#include "trainer/pass_summary.h"
#include "ttt/objective.h"

namespace tenfold {
namespace {

class AdaptArray {
 public:
  AdaptArray(const ArrayContext& context, std::vector<ArrayMember> members);
  void run();

 private:
  std::int64_t lane_count() const { return static_cast<std::int64_t>(lanes_.size()); }
  const TttSpec& ttt() const { return members_.front().ttt(); }  // for what is equal in the array
  AdaptationState adaptation_state() { return {model_, state_, adapted_, optimizer_.get(), members_}; }
  void select_adapted();
  void resume();
  void compute_update();
  void compute_statistics_only(const at::Tensor& samples, const ForwardMode& mode);
  void fill_tables(std::int64_t pass);
  void report_pass(std::int64_t pass, double wall_s);
  TttStepRow summarise(std::int64_t member, std::int64_t pass, const float* metrics, const float* probabilities,
                       const std::int64_t* predicted) const;
  void report_online();
  using Selection = std::function<bool(const AdaptMember&)>;
  void evaluate(Phase phase, std::int64_t pass, const Selection& due);
  void finish_members(std::int64_t pass);
  void checkpoint(std::int64_t pass);
  void report_outcome(std::size_t member, TrialStatus status);
  bool all_at_rest(std::int64_t pass) const;

  const ArrayContext& context_;
  Compute& compute_;
  std::vector<at::Tensor> folds_;  // test samples, stacked by prepare_members
  std::vector<AdaptMember> members_;
  std::vector<Lane> lanes_;
  std::vector<std::int32_t> lane_member_;
  at::Tensor samples_;  // (rows, features)
  int classes_;
  std::vector<std::string> metric_names_;
  Model model_;
  ModelState state_;                  // one slice per lane
  std::vector<std::size_t> adapted_;  // indices of parameters
  std::unique_ptr<Objective> objective_;
  std::unique_ptr<StackedOptimizer> optimizer_;
  std::int64_t updates_;  // of a pass, the most of any lane
  StepTables tables_;
  DropoutMasks masks_;
  StepCounter counter_;
  bool train_mode_, batch_statistics_;
  at::Tensor metrics_;        // (S, lanes, kPassColumns)
  at::Tensor probabilities_;  // (S, lanes, C) mean prediction of each batch
  at::Tensor predicted_;      // (S, lanes, B) int64
  at::Tensor logits_;         // (S, lanes, B, C) before the update
  std::function<void()> replay_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  CheckpointClock clock_;
};

AdaptArray::AdaptArray(const ArrayContext& context, std::vector<ArrayMember> bases)
    : context_(context),
      compute_(context.compute),
      members_(prepare_members(std::move(bases), folds_)),
      lanes_(make_lanes(members_)),
      lane_member_(members_of(lanes_)),
      samples_(folds_.size() == 1 ? folds_.front() : at::cat(folds_, 0)),
      classes_(members_.front().base.fold->dataset->host->classes()),
      metric_names_(members_.front().base.spec.metrics),
      model_(members_.front().base.spec.model, members_.front().base.fold->dataset->host->sample_shape(), classes_,
             members_.front().base.spec.deterministic),
      updates_(updates_of_pass(lanes_, ttt().batch_size.value())),
      tables_(compute_, updates_, lane_count(), ttt().batch_size.value()),
      masks_(compute_, dropout_tables(bases_of(members_), lane_member_, Purpose::ttt_dropout, compute_.device())),
      counter_(compute_.make_counter()),
      train_mode_(ttt().mode.value() == "train"),
      // bn and tent are defined by the batch's statistics (arXiv 2006.10726), whatever dropout does.
      batch_statistics_(train_mode_ || ttt().method == "bn" || ttt().method == "tent"),
      clock_(members_.front().base.spec.checkpoint.every_s,
             members_.front().base.spec.checkpoint.every_steps.value_or(0), -1) {
  folds_.clear();
  state_ = load_lane_states(model_, members_, lane_member_, compute_.device());
  std::vector<TttSpec> specs;
  for (const std::int32_t index : lane_member_) specs.push_back(members_[static_cast<std::size_t>(index)].ttt());
  objective_ = make_objective(ttt().method, specs, compute_.device());
  select_adapted();
  if (objective_) {
    std::vector<UpdateRule> rules;
    std::vector<at::Tensor> parameters;
    for (const TttSpec& spec : specs) rules.push_back(update_rule(spec));
    for (const std::size_t i : adapted_) parameters.push_back(state_.parameters[i]);
    optimizer_ = std::make_unique<StackedOptimizer>(compute_, ttt().optimizer.kind.value() != "sgd", rules, parameters);
  }
  const auto options = at::TensorOptions(at::kFloat).device(compute_.device());
  const std::int64_t batch = ttt().batch_size.value();
  metrics_ = at::zeros({updates_, lane_count(), kPassColumns}, options);
  probabilities_ = at::zeros({updates_, lane_count(), classes_}, options);
  predicted_ = at::zeros({updates_, lane_count(), batch}, options.dtype(at::kLong));
  logits_ = at::zeros({updates_, lane_count(), batch, classes_}, options);
}

void AdaptArray::select_adapted() {
  if (!objective_) return;
  const std::vector<bool> selected = select_parameters(model_.layout(), ttt().parameters.value());
  for (std::size_t i = 0; i < selected.size(); ++i) {
    if (!selected[i]) continue;
    adapted_.push_back(i);
    state_.parameters[i].requires_grad_(true);
  }
}

void AdaptArray::resume() {
  CheckpointReader reader;
  for (std::size_t k = 0; k < members_.size(); ++k) {
    if (!members_[k].base.job.resume) continue;
    restore_adaptation(adaptation_state(), k, reader);
    clock_.written(members_[k].base.job.resume->step);
  }
}

// One update of every lane: what a CUDA graph captures.
void AdaptArray::compute_update() {
  const at::Tensor indices = compute_.row(tables_.indices, counter_);
  const at::Tensor weights = compute_.row(tables_.weights, counter_);
  const at::Tensor samples =
      samples_.index_select(0, indices.flatten()).view({indices.size(0), indices.size(1), samples_.size(1)});
  const ForwardMode mode{train_mode_ ? &masks_ : nullptr, &counter_, batch_statistics_, weights,
                         compute_.row(tables_.momentum, counter_)};
  if (!objective_) return compute_statistics_only(samples, mode);

  const at::Tensor logits = model_.forward(state_, samples, mode);
  const BatchObjective batch = objective_->evaluate(logits.detach(), weights);
  std::vector<at::Tensor> adapted;
  for (const std::size_t i : adapted_) adapted.push_back(state_.parameters[i]);
  const std::vector<at::Tensor> gradients = torch::autograd::grad({logits}, adapted, {batch.logit_gradient});
  at::NoGradGuard no_grad;
  const at::Tensor norm =
      optimizer_->update(gradients, compute_.row(tables_.lr, counter_), compute_.row(tables_.active, counter_));
  compute_.store(metrics_, counter_,
                 at::stack({batch.total, batch.entropy, batch.diversity, batch.diversity_weight, norm}, -1));
  compute_.store(probabilities_, counter_, batch.mean_probability);
  compute_.store(predicted_, counter_, logits.detach().argmax(-1));
  compute_.store(logits_, counter_, logits.detach());
}

// bn: a forward pass moves the running statistics, and that is all. The entropies are recorded as for tent.
void AdaptArray::compute_statistics_only(const at::Tensor& samples, const ForwardMode& mode) {
  at::NoGradGuard no_grad;
  const at::Tensor logits = model_.forward(state_, samples, mode);
  const EntropyTerms terms = entropy_terms(logits, mode.sample_weight, 1e-8);
  const at::Tensor diversity = 1 - terms.mean_entropy / std::log(static_cast<double>(classes_));
  const at::Tensor zero = at::zeros_like(diversity);
  compute_.store(metrics_, counter_, at::stack({terms.entropy, terms.entropy, diversity, zero, zero}, -1));
  compute_.store(probabilities_, counter_, terms.mean_probability);
  compute_.store(predicted_, counter_, logits.argmax(-1));
  compute_.store(logits_, counter_, logits);
}

void AdaptArray::fill_tables(std::int64_t pass) {
  tables_.clear();
  const auto batch = static_cast<std::size_t>(ttt().batch_size.value());
  for (std::size_t i = 0; i < lanes_.size(); ++i) {
    const Lane& lane = lanes_[i];
    const AdaptMember& member = members_[static_cast<std::size_t>(lane.member)];
    if (member.at_rest(pass)) continue;
    const JobMember& job = member.base.job;
    const std::vector<std::int64_t> order =
        member.ttt().shuffle.value() && !resets_by_batch(members_)
            ? shuffled(lane.rows, member.base.spec, Purpose::ttt_permutation, job.repeat, job.fold, pass)
            : lane.rows;
    const double lr = member.control.lr(member.ttt(), pass);
    // Within a member's lanes the position goes on from batch to batch, so that each draws its own dropout.
    const std::size_t lane_start =
        resets_by_batch(members_) ? (i % (lanes_.size() / members_.size())) * batch : std::size_t{0};
    for (std::size_t first = 0, t = 0; first < order.size(); first += batch, ++t) {
      const auto rows = std::span(order).subspan(first, std::min(batch, order.size() - first));
      // Running statistics become the plain average over the pass's batches.
      const double momentum = 1.0 / static_cast<double>(t + 1);
      tables_.set(static_cast<std::int64_t>(t), static_cast<std::int64_t>(i), rows, lr, pass,
                  static_cast<std::int64_t>(lane_start + first), momentum);
    }
  }
  tables_.upload(masks_.tables());
}

TttStepRow AdaptArray::summarise(std::int64_t index, std::int64_t pass, const float* metrics,
                                 const float* probabilities, const std::int64_t* predicted) const {
  const std::int64_t lanes = lane_count(), batch = ttt().batch_size.value();
  std::vector<BatchMeasure> batches;
  for (std::int64_t i = 0; i < lanes; ++i) {
    if (lane_member_[static_cast<std::size_t>(i)] != index) continue;
    for (std::int64_t t = 0; t < updates_; ++t) {
      const std::int64_t count = tables_.count(t, i), place = t * lanes + i;
      if (count > 0)
        batches.push_back({count,
                           metrics + place * kPassColumns,
                           probabilities + place * classes_,
                           {predicted + place * batch, static_cast<std::size_t>(count)}});
    }
  }
  const AdaptMember& member = members_[static_cast<std::size_t>(index)];
  TttStepRow row = summarise_pass(batches, classes_);
  row.step = pass;
  row.lr = member.control.lr(member.ttt(), pass);
  if (!objective_) row.grad_norm = std::numeric_limits<double>::quiet_NaN();
  return row;
}

void AdaptArray::report_pass(std::int64_t pass, double wall_s) {
  const at::Tensor metrics = metrics_.cpu(), probabilities = probabilities_.cpu(), predicted = predicted_.cpu();
  Progress progress;
  progress.step = pass;
  double reporting = 0;
  for (std::size_t k = 0; k < members_.size(); ++k) {
    AdaptMember& member = members_[k];
    progress.steps = std::max(progress.steps, member.passes);
    if (member.at_rest(pass)) continue;
    TttStepRow row = summarise(static_cast<std::int64_t>(k), pass, metrics.const_data_ptr<float>(),
                               probabilities.const_data_ptr<float>(), predicted.const_data_ptr<std::int64_t>());
    row.wall_s = wall_s / static_cast<double>(members_.size());
    member.wall_s += row.wall_s;
    member.passes_done = pass + 1;
    context_.reporter.rows(static_cast<std::uint32_t>(k), std::span<const TttStepRow>(&row, 1));
    progress.total += row.total;
    progress.entropy += row.entropy;
    progress.diversity += row.diversity;
    reporting += 1;
    if (!std::isfinite(row.total) || (objective_ && !std::isfinite(row.grad_norm)))
      member.failure = std::string("the adaptation ") + (std::isfinite(row.total) ? "gradient" : "loss") +
                       " is not finite at pass " + std::to_string(pass);
    else
      member.stopped = member.control.look(member.ttt(), row);
  }
  progress.total /= reporting;
  progress.entropy /= reporting;
  progress.diversity /= reporting;
  progress.updates_per_s = wall_s > 0 ? reporting * static_cast<double>(updates_) / wall_s : 0;
  context_.reporter.progress(progress);
}

// What an online user would have been served: each sample's prediction in the first pass, before its batch's update.
void AdaptArray::report_online() {
  const at::Tensor logits = logits_.cpu(), indices = tables_.indices.cpu();
  const std::int64_t lanes = lane_count(), batch = ttt().batch_size.value();
  for (std::size_t k = 0; k < members_.size(); ++k) {
    const AdaptMember& member = members_[k];
    std::vector<float> values;
    std::vector<std::int64_t> labels;
    for (std::int64_t i = 0; i < lanes; ++i) {
      if (lane_member_[static_cast<std::size_t>(i)] != static_cast<std::int32_t>(k)) continue;
      for (std::int64_t t = 0; t < updates_; ++t)
        for (std::int64_t b = 0; b < tables_.count(t, i); ++b) {
          const std::int64_t place = (t * lanes + i) * batch + b;
          const float* row = logits.const_data_ptr<float>() + place * classes_;
          values.insert(values.end(), row, row + classes_);
          const std::int64_t sample = indices.const_data_ptr<std::int64_t>()[place] - member.all_rows.front();
          labels.push_back(member.base.fold->test_labels[static_cast<std::size_t>(sample)]);
        }
    }
    if (labels.empty()) continue;
    const Predictions predictions{values, labels, classes_, member.base.fold->split.held_out_class};
    context_.reporter.rows(static_cast<std::uint32_t>(k),
                           classification_metrics(predictions, metric_names_, Phase::online, 0));
  }
}

// before: the fit on the whole held-out fold. after: the adapted model on it. With `reset: batch` both are over the
// adaptation set, so that they are pairs: after, every batch by the parameters adapted to it.
void AdaptArray::evaluate(Phase phase, std::int64_t pass, const Selection& due) {
  const bool by_batch = phase == Phase::after && resets_by_batch(members_);
  const std::size_t parts = by_batch ? lanes_.size() / members_.size() : 1;  // of a member's samples
  std::vector<std::vector<std::int64_t>> rows(members_.size() * parts);
  bool any = false;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const AdaptMember& member = members_[i / parts];
    if (!member.failure.empty() || !due(member)) continue;
    rows[i] = by_batch ? lanes_[i].rows : resets_by_batch(members_) ? member.query_rows : member.all_rows;
    any = true;
  }
  if (!any) return;
  ModelState states = by_batch ? state_ : first_lanes(state_, static_cast<std::int64_t>(members_.size()));
  const auto gather = [&](const auto& batch) {
    std::vector<std::int64_t> flat;
    for (const auto& list : batch) flat.insert(flat.end(), list.begin(), list.end());
    const at::Tensor indices = at::tensor(flat, at::kLong).to(compute_.device());
    return samples_.index_select(0, indices)
        .view({static_cast<std::int64_t>(batch.size()), static_cast<std::int64_t>(batch.front().size()),
               samples_.size(1)});
  };
  const std::int64_t size = by_batch ? std::min<std::int64_t>(kEvaluationBatch, ttt().batch_size.value())
                                     : kEvaluationBatch;  // a lane is one batch
  const auto logits = evaluate_logits(model_, states, rows, gather, size);
  for (std::size_t k = 0; k < members_.size(); ++k) {
    AdaptMember& member = members_[k];
    if (!member.failure.empty() || !due(member)) continue;
    std::vector<float> values;
    std::vector<std::int64_t> labels;
    for (std::size_t i = k * parts; i < (k + 1) * parts; ++i) {
      values.insert(values.end(), logits[i].begin(), logits[i].end());
      for (const std::int64_t row : rows[i])
        labels.push_back(member.base.fold->test_labels[static_cast<std::size_t>(row - member.all_rows.front())]);
    }
    if (!all_finite(values)) {
      member.failure = std::string("the ") + (phase == Phase::before ? "trained" : "adapted") +
                       " model's predictions are not finite" +
                       (phase == Phase::before ? "" : " after pass " + std::to_string(member.passes_done - 1));
      continue;
    }
    const Predictions predictions{values, labels, classes_, member.base.fold->split.held_out_class};
    const std::int64_t step =
        phase == Phase::before ? 0 : std::max<std::int64_t>(0, std::min(pass, member.passes_done - 1));
    context_.reporter.rows(static_cast<std::uint32_t>(k),
                           classification_metrics(predictions, metric_names_, phase, step));
  }
}

void AdaptArray::checkpoint(std::int64_t pass) {
  context_.reporter.checkpoint(write_checkpoint(context_.job, pass, save_adaptation(adaptation_state())));
  clock_.written(pass);
}

// Those for which `pass` was the last leave the array: measured, with their outcome. No later checkpoint counts for
// them.
void AdaptArray::finish_members(std::int64_t pass) {
  const auto ends = [&](const AdaptMember& member) { return !member.over && member.at_rest(pass + 1); };
  if (std::none_of(members_.begin(), members_.end(), ends)) return;
  evaluate(Phase::after, pass, ends);
  share_remaining_time(members_, start_);
  for (std::size_t k = 0; k < members_.size(); ++k)
    if (ends(members_[k])) report_outcome(k, TrialStatus::done);
}

void AdaptArray::report_outcome(std::size_t k, TrialStatus status) {
  report_end(context_, members_[k], k, status, members_[k].stopped, members_[k].passes_done);
}

bool AdaptArray::all_at_rest(std::int64_t pass) const {
  return std::all_of(members_.begin(), members_.end(), [&](const AdaptMember& m) { return m.at_rest(pass); });
}

void AdaptArray::run() {
  const auto everyone = [](const AdaptMember&) { return true; };
  std::int64_t pass = members_.front().base.job.resume ? members_.front().base.job.resume->step + 1 : 0;
  if (pass == 0) evaluate(Phase::before, 0, everyone);
  resume();
  finish_members(pass - 1);
  tables_.clear();
  tables_.upload(masks_.tables());
  if (!all_at_rest(pass)) replay_ = compute_.repeatable([this] { compute_update(); }, counter_);
  const std::int64_t eval_every = ttt().eval_every_steps.value_or(0);
  for (; !all_at_rest(pass); ++pass) {
    const auto pass_start = std::chrono::steady_clock::now();
    fill_tables(pass);
    compute_.set_counter(counter_, 0);
    for (std::int64_t t = 0; t < updates_; ++t) replay_();
    compute_.synchronise();
    if (pass == 0) report_online();
    report_pass(pass, seconds_since(pass_start));
    finish_members(pass);
    if (all_at_rest(pass + 1)) return;
    if (eval_every > 0 && (pass + 1) % eval_every == 0) {
      evaluate(Phase::after, pass, [](const AdaptMember& member) { return !member.over; });
      finish_members(pass);  // predictions that are not finite
    }
    const bool drain = context_.reporter.drain_requested();
    if (drain || clock_.due(pass)) checkpoint(pass);
    if (!drain) continue;
    share_remaining_time(members_, start_);
    for (std::size_t k = 0; k < members_.size(); ++k)
      if (!members_[k].over) report_outcome(k, TrialStatus::stopped);
    return;
  }
}

}  // namespace

void run_adapt_array(const ArrayContext& context, std::vector<ArrayMember> members) {
  AdaptArray(context, std::move(members)).run();
}

}  // namespace tenfold

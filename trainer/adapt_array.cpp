#include "trainer/adapt_array.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <optional>

#include "experiments/error.h"
#include "trainer/adapt_batches.h"
#include "trainer/adapt_checkpoint.h"
#include "trainer/adapt_evaluation.h"
#include "trainer/adapt_members.h"
#include "trainer/agreement.h"
#include "trainer/checkpoint.h"
#include "trainer/gradient_buckets.h"
#include "trainer/kept_lanes.h"
#include "trainer/lane_states.h"
#include "trainer/member_end.h"
#include "trainer/optimizer.h"
#include "trainer/optional_checkpoint.h"
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
  AdaptationState adaptation_state() { return {*model_, state_, adapted_, optimizer_.get(), members_, kept_.get()}; }
  void select_adapted();
  void resume();
  void compute_update(std::int64_t length);
  void compute_statistics_only(const Batch& batch, const ForwardMode& mode);
  void store_predictions(const at::Tensor& logits, const at::Tensor& weights);
  void fill_tables(std::int64_t pass);
  void compute_pass(std::int64_t pass);
  void report_pass(std::int64_t pass, double wall_s);
  TttStepRow summarise(std::int64_t member, std::int64_t pass, const float* metrics, const float* probabilities,
                       const std::int64_t* predicted) const;
  void finish_members(std::int64_t pass);
  void checkpoint(std::int64_t pass);
  void end_members(const std::function<bool(const AdaptMember&)>& which, TrialStatus status);
  void stop();
  void advance();
  bool all_at_rest(std::int64_t pass) const;

  const ArrayContext& context_;
  Compute& compute_;
  std::vector<SampleTable> folds_;  // test samples, listed by prepare_members
  std::vector<AdaptMember> members_;
  std::vector<Lane> lanes_;
  std::vector<std::int32_t> lane_member_;
  SampleTable samples_;  // of all folds
  const Dataset& dataset_;
  int classes_;
  std::unique_ptr<Model> model_;
  ModelState state_;                  // one slice per lane
  std::vector<std::size_t> adapted_;  // indices of parameters
  std::unique_ptr<Objective> objective_;
  std::unique_ptr<StackedOptimizer> optimizer_;
  std::optional<GradientBuckets> buckets_;  // in a group
  SumOverRanks over_ranks_;                 // in a group
  AdaptBatches batches_;
  std::int64_t updates_;  // of a pass, the most of any lane
  std::int64_t rows_;     // of logits of this rank's part of a batch, the most
  StepTables tables_;
  DropoutMasks masks_;
  StepCounter counter_;
  bool train_mode_, batch_statistics_;
  at::Tensor metrics_;               // (S, lanes, kPassColumns)
  at::Tensor probabilities_;         // (S, lanes, C) mean prediction of each batch
  at::Tensor predicted_;             // (S, lanes, R) int64, -1 for padding
  at::Tensor logits_;                // (S, lanes, R, C) before the update; undefined for tokens
  at::Tensor base_lr_;               // (lanes) of the inner loop, where there is one
  std::unique_ptr<KeptLanes> kept_;  // on_nonfinite.policy stop: what the lanes were before the pass
  AdaptEvaluation evaluation_;
  std::int64_t last_pass_ = -1;                           // that was computed here
  std::map<std::int64_t, std::function<void()>> replay_;  // an update, by padded length
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  CheckpointClock clock_;
};

AdaptArray::AdaptArray(const ArrayContext& context, std::vector<ArrayMember> bases)
    : context_(context),
      compute_(context.compute),
      members_(prepare_members(std::move(bases), folds_)),
      lanes_(make_lanes(members_)),
      lane_member_(members_of(lanes_)),
      samples_(concatenated(folds_)),
      dataset_(*members_.front().base.fold->dataset->host),
      classes_(dataset_.classes()),
      model_(
          make_model(members_.front().base.spec.model, model_data(dataset_), members_.front().base.spec.deterministic)),
      batches_(members_, lanes_, samples_),
      updates_(batches_.updates()),
      rows_(context.share().part(ttt().batch_size.value()) *
            (dataset_.label_kind() == LabelKind::sample ? 1 : batches_.longest())),
      tables_(compute_, updates_, lane_count(), ttt().batch_size.value(), context.share()),
      masks_(compute_, dropout_tables(bases_of(members_), lane_member_, Purpose::ttt_dropout, compute_.device())),
      counter_(compute_.make_counter()),
      train_mode_(ttt().mode.value() == "train"),
      // bn and tent are defined by the batch's statistics (arXiv 2006.10726), whatever dropout does.
      batch_statistics_(train_mode_ || ttt().method == "bn" || ttt().method == "tent"),
      base_lr_(inner_rates(bases_of(members_), lane_member_, compute_.device())),
      evaluation_(context_, *model_, {samples_, dataset_, members_.front().base.spec.metrics}, members_, lanes_,
                  base_lr_),
      clock_(members_.front().base.spec.checkpoint, -1) {
  folds_.clear();
  state_ = load_lane_states(*model_, members_, lane_member_, compute_.device());
  std::vector<TttSpec> specs;
  for (const std::int32_t index : lane_member_) specs.push_back(members_[static_cast<std::size_t>(index)].ttt());
  objective_ = make_objective(ttt().method, specs, compute_.device());
  if (context_.group != nullptr)
    over_ranks_ = [group = context_.group](const at::Tensor& part) { return summed(*group, part); };
  select_adapted();
  if (members_.front().base.spec.on_nonfinite.policy == "stop") kept_ = std::make_unique<KeptLanes>(state_, adapted_);
  if (objective_) {
    std::vector<UpdateRule> rules;
    std::vector<at::Tensor> parameters;
    for (const TttSpec& spec : specs) rules.push_back(update_rule(spec));
    for (const std::size_t i : adapted_) parameters.push_back(state_.parameters[i]);
    optimizer_ = std::make_unique<StackedOptimizer>(compute_, ttt().optimizer.kind.value() != "sgd", rules, parameters);
    if (context_.group != nullptr && !parameters.empty())
      buckets_.emplace(*context_.group, parameters, 0, context_.bucket_bytes);
  }
  const auto options = at::TensorOptions(at::kFloat).device(compute_.device());
  metrics_ = at::zeros({updates_, lane_count(), kPassColumns}, options);
  probabilities_ = at::zeros({updates_, lane_count(), classes_}, options);
  predicted_ = at::zeros({updates_, lane_count(), rows_}, options.dtype(at::kLong));
  if (samples_.kind != SampleKind::tokens) logits_ = at::zeros({updates_, lane_count(), rows_, classes_}, options);
}

void AdaptArray::select_adapted() {
  if (!objective_) return;
  const std::vector<bool> selected = select_parameters(model_->layout(), ttt().parameters.value());
  for (std::size_t i = 0; i < selected.size(); ++i) {
    if (!selected[i]) continue;
    adapted_.push_back(i);
    state_.parameters[i].requires_grad_(true);
  }
}

void AdaptArray::resume() {
  restore_adaptation(adaptation_state());
  if (const auto& from = members_.front().base.job.resume) clock_.written(from->step);
}

// One update of every lane: what a CUDA graph captures.
void AdaptArray::compute_update(std::int64_t length) {
  const at::Tensor indices = compute_.row(tables_.indices, counter_);
  const at::Tensor weights = compute_.row(tables_.weights, counter_);
  const Batch batch = gather_batch(samples_, indices, weights, length);
  const ForwardMode mode{train_mode_ ? &masks_ : nullptr,          &counter_, batch_statistics_, weights,
                         compute_.row(tables_.momentum, counter_), nullptr,   base_lr_,          context_.group};
  if (!objective_) return compute_statistics_only(batch, mode);

  const at::Tensor logits = model_->forward(state_, batch, mode);
  const at::Tensor row_weight = row_weights(dataset_.label_kind(), batch, weights);
  const BatchObjective objective = objective_->evaluate(logits.detach(), row_weight, over_ranks_);
  const std::vector<at::Tensor> gradients =
      buckets_ ? buckets_->sum(logits, objective.logit_gradient)
               : torch::autograd::grad({logits}, chosen(state_.parameters, adapted_), {objective.logit_gradient});
  at::NoGradGuard no_grad;
  const at::Tensor norm =
      optimizer_->update(gradients, compute_.row(tables_.lr, counter_), compute_.row(tables_.active, counter_));
  compute_.store(
      metrics_, counter_,
      at::stack({objective.total, objective.entropy, objective.diversity, objective.diversity_weight, norm}, -1));
  compute_.store(probabilities_, counter_, objective.mean_probability);
  store_predictions(logits.detach(), row_weight);
}

// bn: a forward pass moves the running statistics, and that is all. The entropies are recorded as for tent.
void AdaptArray::compute_statistics_only(const Batch& batch, const ForwardMode& mode) {
  at::NoGradGuard no_grad;
  const at::Tensor logits = model_->forward(state_, batch, mode);
  const at::Tensor row_weight = row_weights(dataset_.label_kind(), batch, mode.sample_weight);
  const EntropyTerms terms = entropy_terms(logits, row_weight, 1e-8, over_ranks_);
  const at::Tensor diversity = 1 - terms.mean_entropy / std::log(static_cast<double>(classes_));
  const at::Tensor zero = at::zeros_like(diversity);
  compute_.store(metrics_, counter_, at::stack({terms.entropy, terms.entropy, diversity, zero, zero}, -1));
  compute_.store(probabilities_, counter_, terms.mean_probability);
  store_predictions(logits, row_weight);
}

// Of a batch that is shorter than the longest: the rest is padding.
void AdaptArray::store_predictions(const at::Tensor& logits, const at::Tensor& weights) {
  const std::int64_t rest = rows_ - logits.size(1);
  const at::Tensor likeliest = at::where(weights > 0, logits.argmax(-1), -1);
  compute_.store(predicted_, counter_, rest > 0 ? at::constant_pad_nd(likeliest, {0, rest}, -1) : likeliest);
  if (logits_.defined())
    compute_.store(logits_, counter_, rest > 0 ? at::constant_pad_nd(logits, {0, 0, 0, rest}) : logits);
}

void AdaptArray::fill_tables(std::int64_t pass) {
  tables_.clear();
  const auto batch = static_cast<std::size_t>(ttt().batch_size.value());
  for (std::size_t i = 0; i < lanes_.size(); ++i) {
    const Lane& lane = lanes_[i];
    const AdaptMember& member = members_[static_cast<std::size_t>(lane.member)];
    if (member.at_rest(pass)) continue;
    const double lr = member.rate(pass);
    // Within a member's lanes the position goes on from batch to batch, so that each draws its own dropout.
    const std::size_t lane_start =
        resets_by_batch(members_) ? (i % (lanes_.size() / members_.size())) * batch : std::size_t{0};
    const auto batches = batches_.batches(member, lane, pass);
    for (std::size_t t = 0; t < batches.size(); ++t) {
      // Running statistics become the plain average over the pass's batches.
      const double momentum = 1.0 / static_cast<double>(t + 1);
      tables_.set(static_cast<std::int64_t>(t), static_cast<std::int64_t>(i), batches[t], lr, pass,
                  static_cast<std::int64_t>(lane_start + t * batch), momentum);
    }
  }
  tables_.upload(masks_.tables());
}

TttStepRow AdaptArray::summarise(std::int64_t index, std::int64_t pass, const float* metrics,
                                 const float* probabilities, const std::int64_t* predicted) const {
  const std::int64_t lanes = lane_count();
  std::vector<BatchMeasure> batches;
  for (std::int64_t i = 0; i < lanes; ++i) {
    if (lane_member_[static_cast<std::size_t>(i)] != index) continue;
    for (std::int64_t t = 0; t < updates_; ++t) {
      const std::int64_t place = t * lanes + i;
      const std::int64_t rows = rows_ * context_.share().size;
      const std::span<const std::int64_t> classes(predicted + place * rows, static_cast<std::size_t>(rows));
      if (tables_.count(t, i) > 0)
        batches.push_back({rows - std::count(classes.begin(), classes.end(), -1), metrics + place * kPassColumns,
                           probabilities + place * classes_, classes});
    }
  }
  const AdaptMember& member = members_[static_cast<std::size_t>(index)];
  TttStepRow row = summarise_pass(batches, classes_);
  row.step = pass;
  row.lr = member.rate(pass);
  if (!objective_) row.grad_norm = std::numeric_limits<double>::quiet_NaN();
  return row;
}

void AdaptArray::report_pass(std::int64_t pass, double wall_s) {
  const at::Tensor metrics = metrics_.cpu(), probabilities = probabilities_.cpu();
  const at::Tensor predicted = of_all_ranks(context_, predicted_).cpu();
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
    const bool finite = std::isfinite(row.total) && (!objective_ || std::isfinite(row.grad_norm));
    if (!finite) {
      member.failure = std::string("the adaptation ") + (std::isfinite(row.total) ? "gradient" : "loss") +
                       " is not finite at pass " + std::to_string(pass);
      member.nonfinite = true;
      if (kept_) continue;  // put back to before this pass, which then never was
    }
    context_.reporter.rows(static_cast<std::uint32_t>(k), std::span<const TttStepRow>(&row, 1));
    progress.total += row.total;
    progress.entropy += row.entropy;
    progress.diversity += row.diversity;
    reporting += 1;
    if (finite) member.stopped = member.control.look(member.ttt(), row);
  }
  progress.total /= reporting;
  progress.entropy /= reporting;
  progress.diversity /= reporting;
  progress.updates_per_s = wall_s > 0 ? reporting * static_cast<double>(updates_) / wall_s : 0;
  context_.reporter.progress(progress);
}

void AdaptArray::checkpoint(std::int64_t pass) {
  if (context_.group != nullptr) expect_agreement(*context_.group, state_.parameters);
  if (context_.leads())
    context_.reporter.checkpoint(try_checkpoint(context_.job, pass, save_adaptation(adaptation_state(), pass)));
  clock_.written(pass);
}

// Those for which `pass` was the last leave the array: measured, with their outcome. No later checkpoint counts for
// them.
void AdaptArray::finish_members(std::int64_t pass) {
  const auto ends = [&](const AdaptMember& member) { return !member.over && member.at_rest(pass + 1); };
  if (std::none_of(members_.begin(), members_.end(), ends)) return;
  if (kept_) kept_->put_back_nonfinite(state_, members_, pass);
  // Before the evaluation, for a drain may end that.
  end_members([&](const AdaptMember& member) { return ends(member) && !member.failure.empty(); }, TrialStatus::failed);
  // Who is put back to a pass after which it was measured already is not measured again.
  const std::int64_t every = ttt().eval_every_steps.value_or(0);
  const auto due = [&](const AdaptMember& member) {
    const bool again = member.put_back > 0 && every > 0 && member.passes_done > 0 && member.passes_done % every == 0;
    return ends(member) && !member.measured && !again;
  };
  // Given up only where nothing else is due at this pass, which a run that goes on would not know of.
  evaluation_.evaluate(state_, Phase::after, pass, due,
                       all_at_rest(pass + 1) ? drain_watch(context_) : std::function<bool()>());
  for (AdaptMember& member : members_) member.measured |= due(member) && member.failure.empty();
  while (kept_ && kept_->put_back_nonfinite(state_, members_, pass)) {
    evaluation_.evaluate(state_, Phase::after, pass, due);
    for (AdaptMember& member : members_) member.measured |= due(member) && member.failure.empty();
  }
  end_members(ends, TrialStatus::done);
}

void AdaptArray::end_members(const std::function<bool(const AdaptMember&)>& which, TrialStatus status) {
  share_remaining_time(members_, start_);
  for (std::size_t k = 0; k < members_.size(); ++k)
    if (which(members_[k])) report_end(context_, members_[k], k, status, members_[k].stopped, members_[k].passes_done);
}

bool AdaptArray::all_at_rest(std::int64_t pass) const {
  return std::all_of(members_.begin(), members_.end(), [&](const AdaptMember& m) { return m.at_rest(pass); });
}

void AdaptArray::compute_pass(std::int64_t pass) {
  const WatchedWork watched(context_.group, pass);
  compute_.set_counter(counter_, 0);
  for (std::int64_t t = 0; t < updates_; ++t) {
    replay_.at(batches_.padded_length(pass, t))();
    if (context_.group != nullptr) context_.group->progressed();
  }
  compute_.synchronise();
  last_pass_ = pass;
}

void AdaptArray::run() {
  try {
    advance();
  } catch (const EvaluationGivenUp&) {
    if (last_pass_ >= 0) checkpoint(last_pass_);
    stop();
  }
}

// After a drain.
void AdaptArray::stop() {
  end_members([](const AdaptMember& member) { return !member.over; }, TrialStatus::stopped);
}

void AdaptArray::advance() {
  const auto everyone = [](const AdaptMember&) { return true; };
  context_.await_all();
  std::int64_t pass = members_.front().base.job.resume ? members_.front().base.job.resume->step + 1 : 0;
  if (pass == 0) evaluation_.evaluate(state_, Phase::before, 0, everyone, drain_watch(context_));
  resume();
  finish_members(pass - 1);
  tables_.clear();
  tables_.upload(masks_.tables());
  if (!all_at_rest(pass)) {
    const WatchedWork watched(context_.group);
    for (const std::int64_t length : batches_.padded_lengths()) {
      replay_[length] = compute_.repeatable([this, length] { compute_update(length); }, counter_);
      if (context_.group != nullptr) context_.group->progressed();
    }
  }
  const std::int64_t eval_every = ttt().eval_every_steps.value_or(0);
  for (; !all_at_rest(pass); ++pass) {
    const auto pass_start = std::chrono::steady_clock::now();
    if (kept_) kept_->keep(state_);
    fill_tables(pass);
    compute_pass(pass);
    if (pass == 0 && logits_.defined())
      evaluation_.report_online(of_all_ranks(context_, logits_), of_all_ranks(context_, tables_.indices), tables_,
                                batches_);
    report_pass(pass, seconds_since(pass_start));
    finish_members(pass);
    if (all_at_rest(pass + 1)) return;
    if (eval_every > 0 && (pass + 1) % eval_every == 0) {
      evaluation_.evaluate(state_, Phase::after, pass, [](const AdaptMember& member) { return !member.over; });
      finish_members(pass);  // predictions that are not finite
    }
    const LeadersWish wish = leaders_wish(context_, clock_.due(pass));
    const bool drain = wish.drain;
    if (drain || wish.checkpoint) checkpoint(pass);
    if (drain) return stop();
  }
}

}  // namespace

void run_adapt_array(const ArrayContext& context, std::vector<ArrayMember> members) {
  AdaptArray(context, std::move(members)).run();
}

}  // namespace tenfold

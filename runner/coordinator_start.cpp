#include <algorithm>

#include "runner/coordinator.h"

// What a run has to do, from what the store already has.
namespace tenfold {
namespace {

constexpr int kEmptyArray = 32;

}  // namespace

void Coordinator::load_units(RegisteredPlan registered) {
  const Plan& plan = prepared_.plan;
  fits_ = static_cast<std::int32_t>(plan.fits.size());
  trials_ = static_cast<std::int32_t>(plan.trials.size());
  units_.reserve(static_cast<std::size_t>(fits_ + trials_));
  for (auto* states : {&registered.fits, &registered.trials})
    for (UnitState& state : *states)
      units_.push_back({state.id, state.attempts, std::move(state.checkpoints), state.rate});

  trial_index_.assign(static_cast<std::size_t>(fits_) + 1, 0);
  for (const TrialUnit& trial : plan.trials) ++trial_index_[static_cast<std::size_t>(trial.fit) + 1];
  for (std::size_t f = 0; f < static_cast<std::size_t>(fits_); ++f) trial_index_[f + 1] += trial_index_[f];
  trial_units_.resize(static_cast<std::size_t>(trials_));
  std::vector<std::int32_t> next(trial_index_.begin(), trial_index_.end() - 1);
  for (std::int32_t t = 0; t < trials_; ++t)
    trial_units_[static_cast<std::size_t>(
        next[static_cast<std::size_t>(plan.trials[static_cast<std::size_t>(t)].fit)]++)] = fits_ + t;

  const int slots = std::max(1, port_.size() - 1);
  const ExperimentSpec& base = prepared_.experiment.base();
  ArraySizing sizing =
      settings_.gpu ? gpu_sizing(slots, base.resources.max_array) : cpu_sizing(slots, base.resources.max_array);
  // What computes nothing is bound by messages alone: more in each.
  if (settings_.empty_trials && base.resources.max_array == 0) sizing.max_array = kEmptyArray;
  std::vector<WorkItem> items = work_items(prepared_.experiment, plan);
  groups_ = std::any_of(items.begin(), items.end(), [](const WorkItem& item) { return item.ranks > 1; });
  scheduler_ = std::make_unique<Scheduler>(std::move(items), sizing, base.retries);

  open_trials_.assign(static_cast<std::size_t>(fits_), 0);
  for (std::int32_t t = 0; t < trials_; ++t) {
    const std::int32_t number = fits_ + t;
    const UnitState& state = registered.trials[static_cast<std::size_t>(t)];
    if (state.status == TrialStatus::done) {
      scheduler_->finished(number);
      ++trials_done_;
      continue;
    }
    // A trial that failed in an earlier run is tried again: whoever starts it anew may have removed the cause.
    ++open_trials_[static_cast<std::size_t>(plan.trials[static_cast<std::size_t>(t)].fit)];
    remaining_cost_[1] += scheduler_->item(number).cost;
    if (costs_.expected_s(scheduler_->item(number)) < 0)
      costs_.observe(scheduler_->item(number), state.expected_wall_s * scheduler_->item(number).ranks);
  }
  for (std::int32_t f = 0; f < fits_; ++f) {
    const UnitState& state = registered.fits[static_cast<std::size_t>(f)];
    const bool wanted = open_trials_[static_cast<std::size_t>(f)] > 0;
    bool done = !wanted;
    if (wanted && state.status == TrialStatus::done) {
      // Its trials start from its last checkpoint; without that it has to be computed again.
      const std::string last = unit(f).checkpoints.empty() ? "" : unit(f).checkpoints.front().path;
      usable_resume_step(f);
      done = !unit(f).checkpoints.empty() && unit(f).checkpoints.front().path == last;
    }
    if (wanted) ++fits_total_;
    if (done) {
      if (wanted) ++fits_done_;
      scheduler_->finished(f);
      for (const std::int32_t trial : trials_of(f))
        if (!scheduler_->over(trial)) make_unit_ready(trial);
      continue;
    }
    if (state.status == TrialStatus::done) begin_at_full_rate(f);
    remaining_cost_[0] += scheduler_->item(f).cost;
    if (costs_.expected_s(scheduler_->item(f)) < 0)
      costs_.observe(scheduler_->item(f), state.expected_wall_s * scheduler_->item(f).ranks);
    make_unit_ready(f);
  }
}

void Coordinator::make_unit_ready(std::int32_t number) { scheduler_->make_ready(number, usable_resume_step(number)); }

std::int64_t Coordinator::usable_resume_step(std::int32_t number) {
  Unit& u = unit(number);
  // What is not begun needs no look at its files, which may be large.
  if (draining_) return u.checkpoints.empty() ? -1 : u.checkpoints.front().step;
  for (const std::string& problem : checkpoints_.keep_usable(u.checkpoints)) {
    event(number, "checkpoint_damaged", problem);
    front_.note(name(number) + ": " + problem);
  }
  return u.checkpoints.empty() ? -1 : u.checkpoints.front().step;
}

std::span<const std::int32_t> Coordinator::trials_of(std::int32_t fit) const {
  const auto begin = static_cast<std::size_t>(trial_index_[static_cast<std::size_t>(fit)]);
  const auto end = static_cast<std::size_t>(trial_index_[static_cast<std::size_t>(fit) + 1]);
  return {trial_units_.data() + begin, end - begin};
}

}  // namespace tenfold

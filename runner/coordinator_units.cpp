#include <algorithm>
#include <cstdio>

#include "runner/coordinator.h"

// What becomes of fits and trials, and how the store and the front learn of it.
namespace tenfold {
namespace {

// Products of factors, as people read them.
std::string short_number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", value);
  return text;
}

}  // namespace

void Coordinator::unit_done(std::int32_t number) {
  scheduler_->finished(number);
  remaining_cost_[is_fit(number) ? 0 : 1] -= scheduler_->item(number).cost;
  if (is_fit(number)) {
    ++fits_done_;
    if (unit(number).checkpoints.size() > 1)
      unit(number).checkpoints.resize(1);           // its last; the store drops the others
    const bool again = reopened_.contains(number);  // then the others run, or are ready already
    for (const std::int32_t trial : trials_of(number))
      if (!scheduler_->over(trial) && (!again || withheld_.erase(trial) > 0)) make_unit_ready(trial);
  } else {
    ++trials_done_;
    trial_over(number);
  }
}

void Coordinator::unit_failed(std::int32_t number, const std::string& reason) {
  remaining_cost_[is_fit(number) ? 0 : 1] -= scheduler_->item(number).cost;
  event(number, "failed", name(number) + " has failed: " + reason);
  front_.note(name(number) + " has failed: " + reason);
  if (is_fit(number)) {
    fail_trials_of(number, reason);
  } else {
    ++trials_failed_;
    trial_over(number);
  }
}

void Coordinator::fail_unstarted(std::int32_t number, const std::string& reason) {
  Member member{number, 0, usable_resume_step(number), true};
  end_attempt(member, TrialStatus::failed, TrialStatus::failed, reason);
}

void Coordinator::fail_trials_of(std::int32_t fit, const std::string& reason) {
  failed_fits_[fit] = reason;
  for (const std::int32_t trial : trials_of(fit)) {
    // A fit that is computed again may have trials under way that have its parameters in memory: they go on.
    if (scheduler_->over(trial) || scheduler_->in_flight(trial)) continue;
    withheld_.erase(trial);
    fail_trial_of(fit, trial);
  }
}

void Coordinator::fail_trial_of(std::int32_t fit, std::int32_t trial) {
  scheduler_->finished(trial);
  remaining_cost_[1] -= scheduler_->item(trial).cost;
  fail_unstarted(trial, "its fit failed: " + failed_fits_.at(fit));
  ++trials_failed_;
  trial_over(trial);
}

void Coordinator::trial_over(std::int32_t trial) {
  unit(trial).checkpoints = {};
  const std::int32_t fit = scheduler_->item(trial).fit;
  if (--open_trials_[static_cast<std::size_t>(fit)] == 0) unit(fit).checkpoints = {};
}

// `start` says by whom; empty: by nobody.
void Coordinator::begin_attempt(Member& member, AttemptStart start) {
  Unit& u = unit(member.unit);
  member.attempt = next_attempt_++;
  start.kind = kind(member.unit);
  start.unit = u.id;
  start.number = ++u.attempts;
  start.resumed_from_step = member.resumed_from_step;
  if (prepared_.experiment.base().on_nonfinite.policy == "lower_rate") start.rate = u.rate;
  writer_.submit(BeginAttempt{member.attempt, std::move(start)});
}

void Coordinator::end_attempt(Member& member, TrialStatus outcome, TrialStatus unit_status, const std::string& reason,
                              const MemberOutcome& measured, std::optional<LoweredRate> rate) {
  member.over = true;
  if (member.attempt == 0) {
    if (unit_status != TrialStatus::failed) return;  // it never started: there is nothing to end
    // What fails before it could begin has an attempt nevertheless: that is where a reason is looked for.
    begin_attempt(member, {});
  }
  AttemptEnd end;
  end.attempt = static_cast<RowId>(member.attempt);
  end.outcome = outcome;
  end.unit_status = unit_status;
  end.reason = reason;
  end.wall_s = measured.wall_s;
  end.peak_memory_bytes = measured.peak_memory_bytes;
  end.rate = rate;
  end.stopped_nonfinite = outcome == TrialStatus::done && measured.nonfinite;
  writer_.submit(std::move(end));
}

void Coordinator::note_retry(std::int32_t number, const std::string& reason) {
  const int failures = scheduler_->failures(number);
  const std::string text = name(number) + " is tried again" +
                           (failures > 0 ? " (" + std::to_string(failures) + " of " +
                                               std::to_string(prepared_.experiment.base().retries) + ")"
                                         : "") +
                           ": " + reason;
  event(number, "retry", text);
  front_.note(text);
}

void Coordinator::note_lowering(std::int32_t number, const std::string& reason) {
  const LoweredRate& rate = unit(number).rate;
  const std::string text =
      name(number) + " goes on from " + (rate.from_step < 0 ? "the start" : "step " + std::to_string(rate.from_step)) +
      " with " + short_number(rate.scale) + " of its learning rate (lowered " + std::to_string(rate.times) + " of " +
      std::to_string(prepared_.experiment.base().on_nonfinite.times) + " times): " + reason;
  event(number, "rate_lowered", text);
  front_.note(text);
}

void Coordinator::note_kept(std::int32_t number, const std::string& reason) {
  const std::string text = name(number) + " was stopped: " + reason;
  event(number, "stopped_nonfinite", text);
  front_.note(text);
}

std::string Coordinator::lowered_in_vain(const LoweredRate& rate) {
  if (rate.times == 0) return "";
  return "; its learning rate was lowered " + std::to_string(rate.times) + " times, to " + short_number(rate.scale) +
         " of what the experiment gives, in vain";
}

void Coordinator::note_halving(const std::vector<std::int32_t>& members, const std::string& reason) {
  const std::string text = "an array of " + std::to_string(members.size()) +
                           (is_fit(members.front()) ? " fits" : " trials") + " is tried again in halves: " + reason;
  event(-1, "array_halved", text);
  front_.note(text);
}

void Coordinator::event(std::int32_t number, const std::string& kind, const std::string& detail) {
  const bool trial = number >= 0 && !is_fit(number);
  writer_.submit(AddEvent{trial ? std::optional<RowId>(unit(number).id) : std::nullopt, kind, detail});
}

std::string Coordinator::name(std::int32_t number) const {
  const Plan& plan = prepared_.plan;
  if (is_fit(number)) {
    const SplitSummary& split = plan.split(plan.fits[static_cast<std::size_t>(number)]);
    return "the fit of repeat " + std::to_string(split.repeat) + " fold " + std::to_string(split.fold) + " (fit " +
           std::to_string(units_[static_cast<std::size_t>(number)].id) + ")";
  }
  const TrialUnit& trial = plan.trials[static_cast<std::size_t>(number - fits_)];
  const SplitSummary& split = plan.split(trial);
  const std::string& label = prepared_.experiment.configurations()[static_cast<std::size_t>(trial.configuration)].label;
  return "trial " + std::to_string(units_[static_cast<std::size_t>(number)].id) + " (" + label +
         (label.empty() ? "" : ", ") + "repeat " + std::to_string(split.repeat) + " fold " +
         std::to_string(split.fold) + ")";
}

}  // namespace tenfold

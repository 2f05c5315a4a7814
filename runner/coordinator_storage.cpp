#include "experiments/error.h"
#include "runner/coordinator.h"

// Files that cannot be written, and what that means for the run.
namespace tenfold {
namespace {

constexpr auto kNoteAgain = std::chrono::seconds(30);  // every array of every slot meets the same full disk

}  // namespace

// The array goes on: all it loses is a point to resume from.
void Coordinator::checkpoint_failed(const RunningArray& array, std::int64_t step, const std::string& reason) {
  const std::string text = "a checkpoint at step " + std::to_string(step) + " of " + name(array.members.front().unit) +
                           (array.members.size() > 1 ? " and others" : "") +
                           " is left out, and the array goes on without: " + reason;
  event(array.members.front().unit, "checkpoint_failed", text);
  note_storage(text);
}

void Coordinator::storage_trouble(const std::string& text) {
  event(-1, "storage_trouble", text);
  note_storage(text);
}

void Coordinator::note_storage(const std::string& text) {
  const Clock::time_point now = Clock::now();
  if (last_storage_note_ && now - *last_storage_note_ < kNoteAgain) return;
  last_storage_note_ = now;
  front_.note(text);
}

// Trained parameters that cannot be written are lost, and so would be those of every later fit: the run stops in order
// instead of computing for nothing. No attempt counts against a fit or trial.
void Coordinator::stop_for_storage(const std::string& reason) {
  if (!storage_problem_.empty()) return;
  storage_problem_ = reason;
  event(-1, "storage_problem", reason);
  front_.note("stopping: " + reason);
  if (!draining_) begin_drain(reason);
}

// A crash may have come of them.
void Coordinator::look_again_at_files_of(const RunningArray& array) {
  const auto look_again = [&](const Unit& u) {
    if (!u.checkpoints.empty()) checkpoints_.look_again(u.checkpoints.front().path);
  };
  for (const Member& member : array.members) {
    if (member.over) continue;
    look_again(unit(member.unit));
    if (!is_fit(member.unit)) look_again(unit(scheduler_->item(member.unit).fit));
  }
}

// A trial has failed: if the trained parameters that it starts from are no longer what they were, its fit is computed
// again, and it waits for that.
bool Coordinator::has_lost_its_fit(std::int32_t trial) {
  if (is_fit(trial)) return false;
  const std::int32_t fit = scheduler_->item(trial).fit;
  if (failed_fits_.contains(fit)) return false;
  Unit& trained = unit(fit);
  if (scheduler_->over(fit)) {
    if (trained.checkpoints.empty()) return false;
    const std::string last = trained.checkpoints.front().path;
    usable_resume_step(fit);
    if (!trained.checkpoints.empty() && trained.checkpoints.front().path == last) return false;
    reopen_fit(fit);
  }
  scheduler_->returned(trial);
  withheld_.insert(trial);
  return true;
}

// A fit that ended with a lower rate and is computed again meets again what made it lower that.
void Coordinator::begin_at_full_rate(std::int32_t fit) {
  if (unit(fit).rate.times == 0) return;
  unit(fit).rate = {};
  unit(fit).checkpoints.clear();
}

void Coordinator::reopen_fit(std::int32_t fit) {
  const std::string text = name(fit) + " is computed again, for its trained parameters are lost";
  event(fit, "fit_reopened", text);
  front_.note(text);
  scheduler_->reopen(fit);
  reopened_.insert(fit);
  begin_at_full_rate(fit);
  --fits_done_;
  remaining_cost_[0] += scheduler_->item(fit).cost;
  make_unit_ready(fit);
}

// Trials that were ready when their fit was lost, or under way when it failed, are found here, when their turn comes.
void Coordinator::withhold_orphans(PlannedArray& planned) {
  if (reopened_.empty() || planned.stage == Stage::fit) return;
  std::erase_if(planned.units, [&](std::int32_t trial) {
    if (scheduler_->over(trial)) return true;
    const std::int32_t fit = scheduler_->item(trial).fit;
    if (failed_fits_.contains(fit)) {
      fail_trial_of(fit, trial);
      return true;
    }
    if (scheduler_->over(fit)) return false;
    scheduler_->returned(trial);
    withheld_.insert(trial);
    return true;
  });
}

}  // namespace tenfold

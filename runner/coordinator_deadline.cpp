#include <algorithm>
#include <cmath>
#include <cstdio>

#include "experiments/error.h"
#include "runner/coordinator.h"

// A run that will be cut off, by a cluster's time limit: what could not even reach its first checkpoint is not begun.
namespace tenfold {
namespace {

std::string rounded_s(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, seconds < 10 ? "%.1f s" : "%.0f s", std::max(seconds, 0.0));
  return text;
}

}  // namespace

// The first of: the interval in seconds; the interval in steps, at the slowest pace seen; the end. 0 where the pace
// decides and none was seen: then trying is the only way to know.
double Coordinator::first_checkpoint_s(const PlannedArray& planned) const {
  const CheckpointSpec& wanted = jobs_.checkpoint_spec();
  double first_s = wanted.every_s, whole_s = 0;
  for (const std::int32_t u : planned.units) {
    const double expected = costs_.expected_s(scheduler_->item(u));
    whole_s = expected < 0 || whole_s < 0 ? -1 : whole_s + expected;
  }
  if (whole_s >= 0) first_s = std::min(first_s, whole_s / planned.ranks);
  if (wanted.every_steps) {
    const double step_s = slowest_step_s_[planned.stage == Stage::fit ? 0 : 1];
    first_s = std::min(first_s, step_s * *wanted.every_steps);
  }
  return first_s;
}

void Coordinator::note_pace(const RunningArray& array) {
  const double since_s = std::chrono::duration<double>(Clock::now() - array.started_at).count();
  const std::int64_t steps = array.progress.step - std::max<std::int64_t>(array.plan.resume_step, 0);
  if (!array.started || steps <= 0) return;
  double& slowest = slowest_step_s_[array.plan.stage == Stage::fit ? 0 : 1];
  slowest = std::max(slowest, since_s / static_cast<double>(steps));
}

bool Coordinator::reaches_a_checkpoint(const PlannedArray& planned) {
  if (!settings_.ends_at) return true;
  const double left_s = std::chrono::duration<double>(*settings_.ends_at - Clock::now()).count();
  const double needed_s = first_checkpoint_s(planned);
  if (left_s > 0 && needed_s <= left_s) return true;
  // Neither ready nor over: the next run finds these as they were.
  for (const std::int32_t u : planned.units) scheduler_->returned(u);
  held_back_ += planned.units.size();
  if (held_back_ == planned.units.size()) {
    held_back_reason_ = "the time left (" + rounded_s(left_s) +
                        ") does not reach the first checkpoint of what is next (" + rounded_s(needed_s) + ")";
    front_.note("starting nothing more: " + held_back_reason_);
    event(-1, "held_back", held_back_reason_);
  }
  return false;
}

void Coordinator::drain_when_all_is_held_back() {
  if (draining_ || held_back_ == 0 || !running_.empty() || scheduler_->has_ready()) return;
  if (first_dispatch_ == Clock::time_point{})
    throw Error(ErrorKind::config,
                held_back_reason_ +
                    ", so nothing can be started at all, and starting anew would not help: give the job more time "
                    "(--time), or lower checkpoint.every_s or set checkpoint.every_steps");
  begin_drain(held_back_reason_);
}

}  // namespace tenfold

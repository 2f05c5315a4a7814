#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "experiments/experiment.h"
#include "experiments/plan.h"
#include "runner/coordinator_resume.h"
#include "runner/scheduler.h"

namespace tenfold {

// What the coordinator keeps of a fit or trial, by unit number (fits first). Nothing large: there may be a hundred
// thousand.
struct Unit {
  RowId id = 0;
  std::int32_t attempts = 0;
  std::vector<StoredCheckpoint> checkpoints;  // newest first; a done fit keeps its last until its trials are done
  LoweredRate rate = {};
};

// Turns planned arrays into the jobs that trainers understand.
class JobBuilder {
 public:
  JobBuilder(const Experiment& experiment, const Plan& plan, const CheckpointCheck& checkpoints,
             std::string cache_folder, bool empty);

  // Throws Error(internal) when a trial's fit has no checkpoint.
  // `dispatch` makes the names of its files its own. For one trainer; the caller names the group of several.
  ArrayJob build(const PlannedArray& array, const std::vector<Unit>& units, std::uint64_t dispatch);

  // keep and keep_every_steps of the experiment's checkpoints.
  const CheckpointSpec& checkpoint_spec() const { return experiment_.base().checkpoint; }

 private:
  const std::string& specification(std::int32_t configuration);

  const Experiment& experiment_;
  const Plan& plan_;
  const CheckpointCheck& checkpoints_;
  std::string cache_folder_;
  std::string run_;  // makes the names of this run's files its own
  bool empty_;
  std::unordered_map<std::int32_t, std::string> specifications_;  // a few recent ones, as JSON
};

}  // namespace tenfold

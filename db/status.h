#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace tenfold {

struct StatusCounts {
  std::int64_t pending = 0, running = 0, done = 0, failed = 0, stopped = 0;
  std::int64_t total() const { return pending + running + done + failed + stopped; }
};

struct RunningAttempt {
  std::string unit;  // fit or trial
  std::int64_t id = 0;
  std::string label;  // of the trial's configuration, or of one that uses the fit
  std::int64_t repeat = 0, fold = 0;
  std::int64_t number = 0, rank = 0, slot = 0;
  std::string host, device, started_at;
  std::int64_t step = -1;  // last committed; -1: none yet
};

// What the store says of an experiment, at its current revision; NaN where nothing is known yet.
struct ExperimentStatus {
  std::string name;
  std::int64_t revision = 0;
  bool imported = false;
  std::int64_t configurations = 0;
  StatusCounts fits, trials;
  std::vector<RunningAttempt> running;  // at most 64, longest running first
  std::int64_t running_total = 0;
  std::string latest_label;  // of the trial whose losses follow
  std::int64_t latest_step = -1;
  double total = 0, entropy = 0, diversity = 0;
  double loss = 0;               // latest training loss
  double updates_per_s = 0;      // of the slots now running, from their latest rows; 0 when nothing runs
  double trials_per_minute = 0;  // finished in the last five minutes
  std::int64_t failed_attempts = 0;
  std::string started_at;      // first attempt; empty before it
  std::string last_commit_at;  // of the store
};

// All experiments in the order in which they were registered, or the one of this name. Throws Error(storage), and
// Error(config) for a name that the store does not have.
std::vector<ExperimentStatus> read_status(const std::filesystem::path& db,
                                          const std::optional<std::string>& name = std::nullopt);

}  // namespace tenfold

#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace tenfold {

// SLURM's commands, started without a shell. Absent ones are no error until they are needed.
struct ProgramResult {
  int exit_code = -1;
  std::string output;  // stdout and stderr as they came
};
// nullopt: not installed, or no answer in `limit`.
std::optional<ProgramResult> run_cluster_program(const std::string& name, const std::vector<std::string>& arguments,
                                                 std::chrono::milliseconds limit = std::chrono::seconds(60));

// Hands a script to sbatch, held: it does not start before release_job. The job's number. Throws
// Error(communication) with sbatch's own words.
std::string submit_held(const std::filesystem::path& script);
void release_job(const std::string& job);  // throws Error(communication)
void cancel_job(const std::string& job);   // best effort

// What squeue says of a job or one task of its array.
struct QueuedJob {
  std::string name;   // 12, or 12_3 for a task, or 12_[4-8] for those that wait
  std::string state;  // PENDING, RUNNING, ...
  std::string time_left, nodes, reason;
};
// By job number; jobs that the queue has forgotten are absent. nullopt: no SLURM here, or no answer; `why` says which.
std::optional<std::map<std::string, std::vector<QueuedJob>>> queue_of(const std::vector<std::string>& jobs,
                                                                      std::string& why);

}  // namespace tenfold

#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "db/cluster_jobs.h"
#include "runner/cluster_queue.h"

namespace tenfold {

// The latest jobs that `tenfold submit` gave to SLURM, and where they stand in its queue.
struct ClusterStatus {
  std::vector<ClusterJobRow> jobs;                                     // the last first
  std::optional<std::map<std::string, std::vector<QueuedJob>>> queue;  // by job; none: SLURM cannot be asked
  std::string why;                                                     // not
};
ClusterStatus look_at_cluster(const std::filesystem::path& db);

// A few lines, none without jobs.
std::string to_text(const ClusterStatus& status);
// The jobs of one experiment, each with what the queue has of it as `tasks`; one without an array is one task.
// `in_queue` is null where SLURM cannot be asked, and `unknown_because` then says why.
nlohmann::json to_json(const ClusterStatus& status, const std::string& experiment);

}  // namespace tenfold

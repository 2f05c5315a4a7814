#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace tenfold {

// A job that `tenfold submit` gave to SLURM. Texts are empty and array_tasks is 0 where nothing was asked for.
struct ClusterJobRow {
  std::string job;         // SLURM's number
  std::string experiment;  // its name
  std::string script;
  std::string submitted_at, submitted_from;  // time (UTC) and host
  std::int64_t nodes = 1, gpus_per_node = 0, slots = 1, array_tasks = 0;
  std::string time_limit, partition, account, launcher;
};
// The latest `most`, the last first; none in a store that is older than the table.
std::vector<ClusterJobRow> read_cluster_jobs(const std::filesystem::path& db, int most);

}  // namespace tenfold

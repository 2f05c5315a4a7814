#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "runner/cluster_site.h"

namespace tenfold {

extern const char* const kBatchTemplate;  // slurm/job.sbatch

// What `tenfold submit` asks a cluster for.
struct ClusterJob {
  std::filesystem::path experiment_file, db;
  std::vector<std::string> overrides;
  std::string experiment;  // its name
  int nodes = 1;
  int gpus_per_node = 0;  // 0: on CPUs
  int slots = 0;          // in all
  std::string time, partition, account;
  std::string launcher = "mpirun";
  int array = 0;  // jobs that share the experiment; 0: one
  bool share_fits = true;
  int requeues = 0;
  std::filesystem::path folder;   // of scripts, logs and counts
  std::filesystem::path program;  // tenfold on the nodes
};

// The folder of a store's jobs: <db>.jobs
std::filesystem::path job_folder(const std::filesystem::path& db);

// Seconds from the signal to the time limit: the site's, but never more than a quarter of the limit.
int signal_lead_s(const ClusterSite& site, const std::string& time);

// The whole batch script. Everything that came from a user is quoted for the shell, or for sbatch. Throws
// Error(config) for what cannot be: text that sbatch would take apart, a container over several nodes under mpirun.
std::string batch_script(const ClusterJob& job, const ClusterSite& site);

}  // namespace tenfold

#pragma once

#include <filesystem>
#include <string>

namespace tenfold {

// The latest jobs that `tenfold submit` gave to SLURM, and where they stand in its queue; a few lines, none without
// jobs. Where SLURM cannot be asked, it says so.
std::string describe_cluster_jobs(const std::filesystem::path& db);

}  // namespace tenfold

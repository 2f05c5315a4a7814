#pragma once

#include <filesystem>
#include <iosfwd>
#include <string>
#include <vector>

namespace tenfold {

struct SubmitOptions {
  std::filesystem::path experiment_file;
  std::vector<std::string> overrides;
  std::filesystem::path db = "tenfold.db";
  int nodes = 1;
  int gpus_per_node = 0;
  int slots = 0;  // in all; 0: by the GPUs
  std::string time, partition, account;
  std::string launcher;  // empty: the site's
  int array = 0;         // jobs with a part each; 0: one job with everything
  bool share_fits = true;
  bool dry_run = false;  // print the script, touch nothing
};

// `tenfold submit`: writes a batch script, gives it to SLURM and records the job in the store.
int submit_command(const SubmitOptions& options, std::ostream& out);

}  // namespace tenfold

#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "experiments/shard.h"

namespace tenfold {

struct RunOptions {
  std::filesystem::path experiment_file;
  std::vector<std::string> overrides;  // --set
  std::filesystem::path db = "tenfold.db";
  std::string hosts;               // --hosts; empty: this one, or those of the cluster job
  std::filesystem::path hostfile;  // --hostfile, instead
  int slots = 0;                   // --slots; 0: as the file says
  std::string device;              // --device; empty: as the file says
  bool share_fits = true;          // --no-share
  bool quiet = false;
  Shard shard;  // --shard: `db` is its own already
  // --time-limit or the end of the cluster job (runner/job_time.h)
  std::optional<std::chrono::steady_clock::time_point> ends_at;
  bool empty_trials = false;  // hidden, for tests/benchmarks: trials that compute nothing
};

// The front process of `tenfold run`: starts mpirun, forwards signals as a drain, draws the progress, prints the
// result table. Returns the exit code.
int run_experiment(const RunOptions& options);

// What mpirun starts (hidden command `rank`): rank 0 is the coordinator, the others are workers. Also entered when
// `tenfold run` finds itself inside a foreign MPI world. Returns the exit code.
int run_rank(int argc, char** argv);

}  // namespace tenfold

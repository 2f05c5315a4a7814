#pragma once

#include <filesystem>
#include <string>

#include "runner/run.h"

namespace tenfold {

// What the front process tells every rank, as one JSON argument.
struct RankOptions {
  RunOptions run;
  int slots = 1;  // as chosen by the front
  bool gpu = false;
  bool share_gpus = false;             // several slots on each
  double stall_limit_s = 0;            // resources.stall_limit_s; 0: never
  std::string restarted_because;       // not empty: an earlier start has failed
  std::filesystem::path front_socket;  // empty: inside a foreign MPI world, rank 0 stands for the front itself
};
std::string encode(const RankOptions& options);
RankOptions decode_rank_options(const std::string& json);  // throws Error(internal)

// Limits that tests shorten. Throws Error(config) when the variable holds no positive number.
double seconds_from_environment(const char* name, double otherwise);

// How long a peer may be silent before it is written off: $TENFOLD_PEER_SILENCE_S or 20.
double peer_silence_s();

std::filesystem::path log_folder(const std::filesystem::path& db);  // <db>.logs

// How many ranks whoever started this process says there are: our front, mpirun or srun. 0: nobody does.
int announced_world_size(const RankOptions& options);

// Throws Error(communication) when srun started several tasks without a way to know each other (PMIx): each would take
// itself for the whole run.
void refuse_separate_tasks();

// Whether mpirun or srun started this process without our front.
bool in_foreign_mpi_world();

}  // namespace tenfold

#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

namespace tenfold {

// How a worker starts its trainer: tenfold-trainer --socket-fd 3 --device cuda:0 --threads 1 --parent-pid 4711
// How a diagnosis starts it (protocol_diagnose.h): tenfold-trainer --diagnose JOB.json --parent-pid 4711
struct TrainerArguments {
  int socket = 3;              // a connected stream socket, inherited
  std::string device = "cpu";  // cpu or cuda:N
  int threads = 1;             // of LibTorch on the CPU; of a diagnosis 0, all cores, unless given
  pid_t parent = 0;            // the worker; 0: not watched
  bool measure_nccl = false;   // time NCCL over the GPUs of this machine, print it, end
  std::string diagnose;        // the job's file; empty: arrays are computed for a worker
};

// Nothing when --help was asked for, which is then printed. Throws Error(config).
std::optional<TrainerArguments> parse_trainer_arguments(int argc, const char* const* argv);

}  // namespace tenfold

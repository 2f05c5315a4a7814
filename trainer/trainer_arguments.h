#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

namespace tenfold {

// How a worker starts its trainer: tenfold-trainer --socket-fd 3 --device cuda:0 --threads 1 --parent-pid 4711
struct TrainerArguments {
  int socket = 3;              // a connected stream socket, inherited
  std::string device = "cpu";  // cpu or cuda:N
  int threads = 1;             // of LibTorch on the CPU
  pid_t parent = 0;            // the worker; 0: not watched
};

// Nothing when --help was asked for, which is then printed. Throws Error(config).
std::optional<TrainerArguments> parse_trainer_arguments(int argc, const char* const* argv);

}  // namespace tenfold

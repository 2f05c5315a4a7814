#pragma once

#include <filesystem>
#include <string>
#include <vector>

// Several trainers on one GPU (resources.slots_per_gpu). Through NVIDIA's Multi-Process Service their kernels run side
// by side; without it they take turns. The service is a daemon of ours for each host of a run, with pipes and logs of
// its own, and ends with the run; a daemon that somebody else runs is used as it is.
namespace tenfold {

struct GpuSharing {
  std::vector<std::string> environment;  // NAME=value for the trainers of this host
  std::string note;                      // how they share, for the user
};

// Asked by every worker of a host with the same folder (mps_folder); the one that is `first` starts the daemon, the
// others wait for it. Never fails: what cannot be had is in the note.
GpuSharing share_gpus(bool first, const std::filesystem::path& folder);

// Where the workers of this host and run meet: below the run's private folder where that is on this host, else named
// after the process that started the ranks.
std::filesystem::path mps_folder(const std::filesystem::path& front_socket, int launcher);

// Hidden command `mps-keeper LAUNCHER FOLDER`: goes into the background, starts nvidia-cuda-mps-control there, says in
// FOLDER/state how that went, and ends it when the process LAUNCHER is gone. If it is killed itself, the kernel ends
// the daemon.
int keep_mps(int argc, char** argv);

}  // namespace tenfold

#include "runner/gpu_sharing.h"

#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "experiments/error.h"
#include "runner/spawn.h"

namespace tenfold {
namespace {

constexpr auto kStartLimit = std::chrono::seconds(20);
constexpr auto kLook = std::chrono::milliseconds(20);
constexpr const char* kTheirFolder = "/tmp/nvidia-mps";  // where a machine's own daemon has its pipes
constexpr const char* kTurns = "; trainers that share a GPU take turns on it";

void start_keeper(const std::filesystem::path& folder) {
  ChildProcess starter = spawn({program_folder() / "tenfold",
                                {"mps-keeper", std::to_string(::getppid()), folder.string()},
                                environment_without_mpi({}),
                                folder / "keeper.log",
                                -1});
  starter.wait_for(std::chrono::seconds(5));  // the keeper itself is its child, in a session of its own
}

std::string first_line_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

}  // namespace

std::filesystem::path mps_folder(const std::filesystem::path& front_socket, int launcher) {
  if (!front_socket.empty() && std::filesystem::exists(front_socket.parent_path()))
    return front_socket.parent_path() / "mps";
  const char* temporary = ::access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp";
  return std::filesystem::path(temporary) /
         ("tenfold-mps-" + std::to_string(::getuid()) + "-" + std::to_string(launcher));
}

GpuSharing share_gpus(bool first, const std::filesystem::path& folder) {
  if (const char* theirs = std::getenv("CUDA_MPS_PIPE_DIRECTORY"); theirs && *theirs)
    return {{}, std::string("trainers share GPUs through the MPS daemon of CUDA_MPS_PIPE_DIRECTORY=") + theirs};
  if (std::filesystem::exists(std::filesystem::path(kTheirFolder) / "control"))
    return {{}, std::string("trainers share GPUs through this machine's MPS daemon (") + kTheirFolder + ")"};
  if (first) {
    // What another user has put at a name of ours is not used.
    struct stat info {};
    const bool made = ::mkdir(folder.c_str(), 0700) == 0 ||
                      (::lstat(folder.c_str(), &info) == 0 && S_ISDIR(info.st_mode) && info.st_uid == ::getuid());
    if (!made) return {{}, "MPS is not used: cannot make the folder " + folder.string() + kTurns};
    std::error_code ignored;
    std::filesystem::remove(folder / "state", ignored);
    try {
      start_keeper(folder);
    } catch (const Error& error) {
      return {{}, std::string("MPS is not used: ") + error.what() + kTurns};
    }
  }
  const auto until = std::chrono::steady_clock::now() + kStartLimit;
  std::string state;
  while ((state = first_line_of(folder / "state")).empty() && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(kLook);
  if (state != "on") return {{}, "MPS is not used: " + (state.empty() ? "it did not start in time" : state) + kTurns};
  return {
      {"CUDA_MPS_PIPE_DIRECTORY=" + (folder / "pipe").string(), "CUDA_MPS_LOG_DIRECTORY=" + (folder / "log").string()},
      "trainers share GPUs through MPS"};
}

}  // namespace tenfold

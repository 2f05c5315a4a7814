#include "runner/gpu_sharing.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
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

enum class Folder { none, ours, strange };

// At a name that others can foretell, a stranger may have put a folder of their own, or a link to one: what is read
// and which pipes are used is theirs then.
Folder look_at(const std::filesystem::path& folder) {
  struct stat info {};
  if (::lstat(folder.c_str(), &info) != 0) return errno == ENOENT ? Folder::none : Folder::strange;
  const bool ours = S_ISDIR(info.st_mode) && info.st_uid == ::getuid() && (info.st_mode & (S_IRWXG | S_IRWXO)) == 0;
  return ours ? Folder::ours : Folder::strange;
}

std::string first_line_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

}  // namespace

std::filesystem::path mps_folder(const std::filesystem::path& front_socket, int launcher) {
  std::error_code ignored;
  if (!front_socket.empty() && std::filesystem::exists(front_socket.parent_path(), ignored))
    return front_socket.parent_path() / "mps";
  const char* temporary = ::access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp";
  return std::filesystem::path(temporary) /
         ("tenfold-mps-" + std::to_string(::getuid()) + "-" + std::to_string(launcher));
}

GpuSharing share_gpus(bool first, const std::filesystem::path& folder) {
  if (const char* theirs = std::getenv("CUDA_MPS_PIPE_DIRECTORY"); theirs && *theirs)
    return {{}, std::string("trainers share GPUs through the MPS daemon of CUDA_MPS_PIPE_DIRECTORY=") + theirs};
  // Closed to us, it serves somebody else.
  if (std::error_code ignored; std::filesystem::exists(std::filesystem::path(kTheirFolder) / "control", ignored))
    return {{}, std::string("trainers share GPUs through this machine's MPS daemon (") + kTheirFolder + ")"};
  const GpuSharing strange{{},
                           "MPS is not used: " + folder.string() + " is not a folder of this user's alone" + kTurns};
  if (first) {
    if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
      return {{}, "MPS is not used: cannot make the folder " + folder.string() + kTurns};
    if (look_at(folder) != Folder::ours) return strange;
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
  for (;;) {
    const Folder seen = look_at(folder);
    if (seen == Folder::strange) return strange;
    if (seen == Folder::ours) state = first_line_of(folder / "state");
    if (!state.empty() || std::chrono::steady_clock::now() >= until) break;
    std::this_thread::sleep_for(kLook);
  }
  if (state != "on") return {{}, "MPS is not used: " + (state.empty() ? "it did not start in time" : state) + kTurns};
  return {
      {"CUDA_MPS_PIPE_DIRECTORY=" + (folder / "pipe").string(), "CUDA_MPS_LOG_DIRECTORY=" + (folder / "log").string()},
      "trainers share GPUs through MPS"};
}

}  // namespace tenfold

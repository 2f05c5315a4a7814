#include "runner/private_folder.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include "experiments/error.h"

namespace tenfold {
namespace {

constexpr std::string_view kPrefix = "tenfold-run-";
constexpr std::uintmax_t kMiB = std::uintmax_t{1} << 20;

// Folders of runs that were killed: named after the process, which is no more.
void remove_leftovers(const std::filesystem::path& base) {
  std::error_code error;
  for (std::filesystem::directory_iterator it(base, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with(kPrefix)) continue;
    struct stat info {};
    if (::lstat(it->path().c_str(), &info) != 0 || info.st_uid != ::getuid() || !S_ISDIR(info.st_mode)) continue;
    const long pid = std::strtol(name.c_str() + kPrefix.size(), nullptr, 10);
    if (pid <= 0 || ::kill(static_cast<pid_t>(pid), 0) == 0 || errno != ESRCH) continue;
    std::error_code ignored;
    std::filesystem::remove_all(it->path(), ignored);
  }
}

// A segment in a full file system is not refused but kills whoever touches it (SIGBUS): so it is asked before.
std::filesystem::path folder_base(std::uintmax_t needed_bytes) {
  const std::filesystem::path shared = "/dev/shm";
  if (::access(shared.c_str(), W_OK | X_OK) == 0) {
    remove_leftovers(shared);
    std::error_code error;
    const auto space = std::filesystem::space(shared, error);
    if (!error && space.available >= needed_bytes) return shared;
  }
  const char* wanted = std::getenv("TMPDIR");
  const std::filesystem::path base = wanted && *wanted ? wanted : "/tmp";
  remove_leftovers(base);
  return base;
}

}  // namespace

PrivateFolder::PrivateFolder(std::uintmax_t needed_bytes) {
  const std::filesystem::path base = folder_base(needed_bytes);
  std::string name = (base / (std::string(kPrefix) + std::to_string(::getpid()) + "-XXXXXX")).string();
  if (!::mkdtemp(name.data()))
    throw Error(ErrorKind::storage, "cannot make a folder in " + base.string() + ": " + std::strerror(errno) +
                                        ". Make space there, or set TMPDIR to a folder of this host");
  path_ = name;
}

PrivateFolder::~PrivateFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::uintmax_t mpi_bytes(int ranks) { return 16 * kMiB + static_cast<std::uintmax_t>(ranks) * 8 * kMiB; }

}  // namespace tenfold

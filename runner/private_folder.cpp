#include "runner/private_folder.h"

#include <unistd.h>

#include <cstdlib>
#include <string>
#include <string_view>

namespace tenfold {
namespace {

constexpr std::string_view kPrefix = "tenfold-run-";
constexpr std::uintmax_t kMiB = std::uintmax_t{1} << 20;

// A segment in a full file system is not refused but kills whoever touches it (SIGBUS): so it is asked before.
std::filesystem::path folder_base(std::uintmax_t needed_bytes) {
  const std::filesystem::path shared = "/dev/shm";
  if (::access(shared.c_str(), W_OK | X_OK) == 0) {
    HeldFolder::remove_dead(shared, kPrefix);
    std::error_code error;
    const auto space = std::filesystem::space(shared, error);
    if (!error && space.available >= needed_bytes) return shared;
  }
  const char* wanted = std::getenv("TMPDIR");
  const std::filesystem::path base = wanted && *wanted ? wanted : "/tmp";
  HeldFolder::remove_dead(base, kPrefix);
  return base;
}

}  // namespace

PrivateFolder::PrivateFolder(std::uintmax_t needed_bytes)
    : folder_(folder_base(needed_bytes), std::string(kPrefix) + std::to_string(::getpid()) + "-") {}

std::uintmax_t mpi_bytes(int ranks) { return 16 * kMiB + static_cast<std::uintmax_t>(ranks) * 8 * kMiB; }

}  // namespace tenfold

#include "experiments/host.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <system_error>

#include "experiments/error.h"

namespace tenfold {

std::string host_name() {
  char name[256] = "";
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "unknown";
}

std::string boot_id() {
  std::ifstream in("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(in, id);
  return id;
}

std::filesystem::path temporary_folder() {
  std::error_code error;
  std::filesystem::path folder = std::filesystem::temp_directory_path(error);
  if (!error) return folder;
  const char* named = std::getenv("TMPDIR");
  throw Error(ErrorKind::storage, "temporary files cannot be in " + (named ? "TMPDIR=" + std::string(named) : "/tmp") +
                                      ": " + error.message() + "; set TMPDIR to a folder that may be written");
}

}  // namespace tenfold

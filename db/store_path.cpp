#include "db/store_path.h"

#include <algorithm>
#include <string>
#include <system_error>

#include "experiments/error.h"

namespace tenfold {
namespace {

namespace fs = std::filesystem;

constexpr int kMostLinks = 40;  // as the kernel

// Its folder as it is on the disk: behind a linked folder, ".." is not what the words say.
fs::path in_real_folder(const fs::path& file) {
  std::error_code error;
  const fs::path folder = fs::weakly_canonical(fs::absolute(file).parent_path(), error);
  return error ? file : folder / file.filename();
}

}  // namespace

fs::path store_path(const fs::path& named) {
  fs::path file = named;
  std::error_code error;
  for (int links = 0; fs::is_symlink(fs::symlink_status(file, error)); ++links) {
    const fs::path target = fs::read_symlink(file, error);
    if (error || links == kMostLinks)
      throw Error(ErrorKind::config, named.string() + " is a symbolic link that leads " +
                                         (error ? "nowhere: " + error.message() : "back to itself") +
                                         "; name the store itself");
    file = in_real_folder(in_real_folder(file).parent_path() / target);
  }
  if (std::find(file.begin(), file.end(), "..") == file.end()) return file;
  // Others shorten a name by its words: it must mean the same file then.
  const fs::path real = in_real_folder(file);
  return real == in_real_folder(fs::absolute(file).lexically_normal()) ? file : real;
}

}  // namespace tenfold

#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "experiments/unique_fd.h"

namespace tenfold {

// A folder of mode 0700, removed with everything in it at the end. While this object lives it holds the kernel's lock
// on a file of the folder, by which others tell it from what a killed process left behind: a process id says nothing
// to containers and hosts that share the folder's place. The lock goes to forked children, and no further than exec.
class HeldFolder {
 public:
  // Named <base>/<prefix>XXXXXX. Throws Error(storage).
  HeldFolder(const std::filesystem::path& base, std::string_view prefix);
  ~HeldFolder();
  HeldFolder(const HeldFolder&) = delete;
  HeldFolder& operator=(const HeldFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

  // Under another name, without a lock, and not removed at the end. False: it cannot be renamed, and stays where it is.
  bool keep_as(const std::filesystem::path& name);

  // Removes those of this user in `base` whose names begin with `prefix` and whose owners are dead.
  static void remove_dead(const std::filesystem::path& base, std::string_view prefix);

 private:
  std::filesystem::path path_;
  UniqueFd held_;
};

}  // namespace tenfold

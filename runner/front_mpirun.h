#pragma once

#include <filesystem>

#include "runner/child.h"
#include "runner/rank_settings.h"

namespace tenfold {

// A folder of mode 0700 with a short path, removed with everything in it. In shared memory where there is some: MPI
// keeps its segments here, and a kill leaves none of them behind for longer than until the next run.
class PrivateFolder {
 public:
  PrivateFolder();
  ~PrivateFolder();
  PrivateFolder(const PrivateFolder&) = delete;
  PrivateFolder& operator=(const PrivateFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// mpirun with one coordinator and `options.slots` workers, in a session of its own, dying with us. Its output and that
// of the ranks goes to `log`. Throws Error(communication) when there is no mpirun.
ChildProcess start_mpirun(const RankOptions& options, const std::filesystem::path& private_folder,
                          const std::filesystem::path& log);

}  // namespace tenfold

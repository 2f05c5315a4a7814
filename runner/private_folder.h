#pragma once

#include <cstdint>
#include <filesystem>

#include "experiments/held_folder.h"

namespace tenfold {

// A folder of the run's own with a short path, removed with everything in it. In shared memory where `needed_bytes` are
// free there, else in $TMPDIR or /tmp: MPI keeps its segments here, and a kill leaves none of them behind for longer
// than until the next run on this host. Throws Error(storage).
class PrivateFolder {
 public:
  explicit PrivateFolder(std::uintmax_t needed_bytes);
  const std::filesystem::path& path() const { return folder_.path(); }

 private:
  HeldFolder folder_;
};

// What MPI maps and fills for so many ranks of one host.
std::uintmax_t mpi_bytes(int ranks);

}  // namespace tenfold

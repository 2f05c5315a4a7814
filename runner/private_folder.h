#pragma once

#include <cstdint>
#include <filesystem>

namespace tenfold {

// A folder of mode 0700 with a short path, removed with everything in it. In shared memory where `needed_bytes` are
// free there, else in $TMPDIR or /tmp: MPI keeps its segments here, and a kill leaves none of them behind for longer
// than until the next run. Throws Error(storage).
class PrivateFolder {
 public:
  explicit PrivateFolder(std::uintmax_t needed_bytes);
  ~PrivateFolder();
  PrivateFolder(const PrivateFolder&) = delete;
  PrivateFolder& operator=(const PrivateFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// What MPI maps and fills for so many ranks of one host.
std::uintmax_t mpi_bytes(int ranks);

}  // namespace tenfold

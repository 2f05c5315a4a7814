#pragma once

#include <filesystem>
#include <iosfwd>
#include <vector>

namespace tenfold {

struct MergeOptions {
  std::filesystem::path out;
  std::vector<std::filesystem::path> shards;
};

// `tenfold merge`: the stores of shards become one. Exit code 1 when failed or open trials are left.
int merge_command(const MergeOptions& options, std::ostream& out);

}  // namespace tenfold

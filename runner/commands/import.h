#pragma once

#include <filesystem>
#include <iosfwd>
#include <string>

namespace tenfold {

struct ImportOptions {
  std::filesystem::path db = "tenfold.db";
  std::string kind = "ttt-steps";
  std::filesystem::path file;
  std::string name;  // of the experiment that the rows become
  bool quiet = false;
};

// `tenfold import`: losses recorded elsewhere, so that they get the same reports.
int import_command(const ImportOptions& options, std::ostream& out);

}  // namespace tenfold

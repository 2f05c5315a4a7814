#pragma once

#include <filesystem>
#include <iosfwd>
#include <optional>
#include <string>

namespace tenfold {

struct StatusOptions {
  std::filesystem::path db = "tenfold.db";
  std::optional<std::string> experiment;
  bool watch = false;  // until no run holds the store any more
  double interval_s = 2;
  std::string format = "text";  // text json
};

// `tenfold status`: what the store says of its experiments, also while they run.
int status_command(const StatusOptions& options, std::ostream& out);

}  // namespace tenfold

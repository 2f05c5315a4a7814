#pragma once

#include <filesystem>
#include <iosfwd>
#include <optional>
#include <string>

namespace tenfold {

struct ReportOptions {
  std::filesystem::path db = "tenfold.db";
  std::string experiment;
  std::string kind = "ttt-loss";  // ttt-loss experiment
  std::optional<std::string> against;  // a configuration's label, or another experiment
  int interval = 10;                   // adaptation steps between the rows of the tables
  std::string format = "text";         // text markdown csv json
  std::filesystem::path out_file;      // empty: standard output
};

// `tenfold report`: an analysis computed from the store.
int report_command(const ReportOptions& options, std::ostream& out);

}  // namespace tenfold

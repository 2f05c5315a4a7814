#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace tenfold {

// Rows of one configuration whose total is not entropy + 0.15 diversity within the rounding of their digits.
struct FlaggedRows {
  std::string configuration;
  std::int64_t rows = 0;
  std::int64_t first_line = 0;   // of the file
  double best_weight = 0;        // the w that fits best
  std::int64_t unexplained = 0;  // rows that do not fit this w either
};

struct ImportSummary {
  std::string experiment;
  std::int64_t configurations = 0, trials = 0, rows = 0;
  std::vector<FlaggedRows> flagged;
  std::vector<std::string> ignored_columns;
};

// Losses recorded elsewhere become a finished experiment `name`, for the same reports. Columns: fold, step, total,
// entropy, diversity; configuration optional; others are ignored and named. Takes the run lock. All or nothing:
// Error(data) as file:line: what is wrong; Error(config) when the store has an experiment of this name.
ImportSummary import_ttt_steps(const std::filesystem::path& db, const std::filesystem::path& csv_file,
                               const std::string& name);

// The summary in a few lines for a person.
std::string describe(const ImportSummary& summary);

}  // namespace tenfold

#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "db/csv_file.h"
#include "db/import_ttt_steps.h"

namespace tenfold {

inline constexpr double kUsualWeight = 0.15;  // of the entropy and diversity objective

// A number as written: its rounding is half a unit of its last digit.
struct WrittenNumber {
  double value = 0;
  double rounding = 0;
};

struct TttRow {
  std::int64_t line = 0;
  std::int64_t step = 0;
  WrittenNumber total, entropy, diversity;
  double weight = kUsualWeight;  // NaN: no single weight explains the row
};

// Of one configuration.
struct TttRecording {
  std::map<std::int64_t, std::vector<TttRow>> folds;  // rows in the order of the file
};

struct TttRecordings {
  std::vector<std::pair<std::string, TttRecording>> configurations;  // by first appearance; never none
  std::int64_t rows = 0;
  std::vector<std::string> ignored_columns;
};

// The columns as import_ttt_steps() has them. Throws Error(data) as file:line: what is wrong.
TttRecordings read_ttt_recordings(CsvFile& file);

// Finds the weight that explains most rows where the usual one does not explain all, and gives it to those others. None
// where the usual one does.
std::optional<FlaggedRows> flag_unexplained(const std::string& configuration, TttRecording& recording);

}  // namespace tenfold

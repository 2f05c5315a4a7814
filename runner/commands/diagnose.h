#pragma once

#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <optional>
#include <string>

namespace tenfold {

struct DiagnoseOptions {
  std::filesystem::path db = "tenfold.db";
  std::string experiment;             // or experiment/label; empty: --checkpoint
  std::optional<std::int64_t> trial;  // one trial; else every configuration, averaged over folds
  std::optional<std::int64_t> step;   // recorded at, or the checkpoint of
  std::filesystem::path checkpoint;   // a saved model, run once more
  std::optional<std::int64_t> member;
  std::filesystem::path input, tokenizer;
  std::int64_t max_positions = 2048;
  std::string device = "cpu";
  std::filesystem::path out;    // empty: diagnosis-<name>
  std::string format = "text";  // of standard output
};

inline constexpr int kExitPlotsMissing = 1;  // the report is written

// `tenfold diagnose`: is the inner loop of TTT layers learning? From what the store recorded, or by running a saved
// model (trainer/protocol_diagnose.h). The report is written even where plots cannot be, which `errors` then says.
int diagnose_command(const DiagnoseOptions& options, std::ostream& out, std::ostream& errors);

}  // namespace tenfold

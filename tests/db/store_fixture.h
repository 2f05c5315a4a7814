#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "db/sqlite.h"
#include "db/store.h"
#include "experiments/experiment.h"
#include "experiments/plan.h"

namespace tenfold {

// A folder of its own per test, removed afterwards.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// 3 folds of 30 samples, no files needed.
DatasetSummary synthetic_summary(const ExperimentSpec& spec);

// An experiment of `name` whose sweep is over adaptation batch sizes, and its plan.
struct SmallExperiment {
  explicit SmallExperiment(const std::string& sweep = "ttt.batch_size: [4, 8]", const std::string& name = "small",
                           const std::string& more = "");
  Experiment experiment;
  Plan plan;
};

TttStepRow ttt_row(std::int64_t step, double entropy, double diversity, double weight = 0.15);
TrainStepRow train_row(std::int64_t step, double loss);
EvaluationRow evaluation_row(Phase phase, std::int64_t step, const std::string& metric, double value);

// Rows of SQL as text, cells joined by '|'.
std::vector<std::string> rows_of(const std::filesystem::path& db, const std::string& sql);
std::int64_t integer_of(const std::filesystem::path& db, const std::string& sql);

// The message of the Error that `action` throws; fails the test when it throws none.
template <class Action>
std::string error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "no error was thrown";
  return "";
}

}  // namespace tenfold

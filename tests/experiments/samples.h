#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "experiments/error.h"
#include "experiments/experiment.h"
#include "experiments/plan.h"

// What the tests of this folder share.
namespace tenfold::testing {

inline std::filesystem::path source_folder() {
  const char* folder = std::getenv("TENFOLD_SOURCE_DIR");  // set by ctest
  return folder != nullptr ? folder : std::filesystem::current_path().string();
}

inline Experiment parsed(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return Experiment::parse(text, "x.yaml", overrides);
}

// The message that the file is refused with; empty when it is accepted.
inline std::string refusal(const std::string& text, const std::vector<std::string>& overrides = {}) {
  try {
    parsed(text, overrides);
  } catch (const Error& error) {
    return error.kind() == ErrorKind::config ? error.what() : "wrong kind of error: " + std::string(error.what());
  }
  return {};
}

inline std::vector<std::string> labels(const Experiment& experiment) {
  std::vector<std::string> out;
  for (const Configuration& configuration : experiment.configurations()) out.push_back(configuration.label);
  return out;
}

// A data set of 1,797 samples in `k` folds, as digits; the fingerprint depends on the seed.
inline DatasetSummary summary_of(const ExperimentSpec& spec) {
  DatasetSummary data;
  data.fingerprint = sha256(spec.dataset.kind + std::to_string(spec.dataset.seed));
  data.samples = 1797;
  data.sample_shape = {64};
  data.classes = 10;
  for (int repeat = 0; repeat < spec.folds.repeats; ++repeat)
    for (int fold = 0; fold < spec.folds.k; ++fold) {
      const std::string name =
          std::to_string(repeat) + "/" + std::to_string(fold) + "/" + std::to_string(spec.folds.seed);
      const std::int64_t test_n = 1797 / spec.folds.k;
      data.splits.push_back({repeat, fold, sha256(name), 1797 - test_n, 0, test_n});
    }
  return data;
}

}  // namespace tenfold::testing

#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "experiments/experiment.h"
#include "experiments/plan.h"

namespace tenfold {

// An experiment file with its datasets looked at: everything known before anything runs.
struct PreparedExperiment {
  Experiment experiment;
  Plan plan;
  std::vector<std::int64_t> parameters;  // of each configuration's model
  std::vector<std::int32_t> ranks;       // that compute a trial of each configuration together
};

// Trainers read a dataset from its cache (datasets/dataset.h); who only looks writes nothing.
enum class DataCache { write, leave };

// Reads the file, loads each distinct dataset, makes the splits, checks model and adaptation against the samples
// (parameter patterns, image models, bn without batch norm).
PreparedExperiment prepare_experiment(const std::filesystem::path& file, const std::vector<std::string>& overrides,
                                      bool share_fits, DataCache cache);

}  // namespace tenfold

#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "experiments/experiment.h"
#include "experiments/plan.h"
#include "experiments/shard.h"

namespace tenfold {

// An experiment file with its datasets looked at: everything known before anything runs.
struct PreparedExperiment {
  Experiment experiment;
  Plan plan;
  std::vector<std::int64_t> parameters;  // of each configuration's model
  std::vector<std::int32_t> ranks;       // that compute a trial of each configuration together
  std::vector<std::string> identities;   // of each configuration, whatever the shard
};

// Trainers read a dataset from its cache (datasets/dataset.h); who only looks writes nothing.
enum class DataCache { write, leave };

// Reads the file, loads each distinct dataset, makes the splits, checks model and adaptation against the samples
// (parameter patterns, image models, bn without batch norm). The plan is the shard's.
PreparedExperiment prepare_experiment(const std::filesystem::path& file, const std::vector<std::string>& overrides,
                                      bool share_fits, DataCache cache, const Shard& shard = {});

}  // namespace tenfold

#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "runner/planning.h"

namespace tenfold {

struct Range {
  std::int64_t least = 0, most = 0;
};

// Parameters that one choice of `ttt.parameters` adapts.
struct AdaptedParameters {
  std::string patterns;  // "norm", "last:1 layers.0.*"
  std::int64_t parameters = 0;
  std::vector<std::string> names;  // with * for numbers: "layers.*.norm.weight (2)"
  std::int64_t configurations = 0;
};

struct PlannedModel {
  std::string description;  // "mlp 64-128-128-10, norm layer, relu, dropout 0.2"
  std::int64_t parameters = 0;
  std::int64_t tensors = 0;
  std::int64_t configurations = 0;
  std::vector<AdaptedParameters> adapted;
};

struct PlannedData {
  std::string description;  // "digits: 1,797 samples of (64), 10 classes"
  std::string fingerprint;
  std::int64_t samples = 0;
  std::vector<std::int64_t> sample_shape;
  std::int64_t classes = 0;
  std::string folds;  // "stratified, 5 folds"
  std::int64_t splits = 0;
  Range train_n, validation_n, test_n, adaptation_n;
};

// Arrays as the scheduler would form them, were all fits over before the first trial.
struct PlannedArrays {
  std::int64_t arrays = 0;
  Range members;
};

// Configurations whose trials take as many slots.
struct PlannedGroups {
  std::int64_t ranks = 1;
  std::int64_t configurations = 0;
  std::int64_t at_once = 0;  // arrays that the slots have room for
};

// What one shard of the experiment computes.
struct PlannedFit {
  std::int64_t repeat = 0, fold = 0;
  std::vector<std::string> trials;  // labels of their configurations
};
struct PlannedPart {
  Shard shard;
  std::vector<PlannedFit> fits;
};

// What the store has of this very plan.
struct StoredWork {
  std::int64_t fits_done = 0, trials_done = 0, trials_failed = 0;
};

struct PlanSummary {
  std::string name, file, db, device;
  std::int64_t slots = 1;
  std::int64_t fits = 0, trials = 0;
  std::vector<std::string> labels;  // of the configurations
  std::optional<PlannedPart> part;  // empty: everything is planned
  std::vector<PlannedData> data;
  std::vector<PlannedModel> models;
  std::vector<PlannedGroups> groups;                // by ranks, ascending
  PlannedArrays fit_arrays, trial_arrays;           // of what is left to do
  std::int64_t train_updates = 0, ttt_updates = 0;  // of all units
  std::int64_t trainer_bytes = 0;                   // estimated, of the largest array
  std::optional<StoredWork> stored;                 // empty: there is no store yet
  double eta_s = -1;                                // -1: nothing of the kind has run yet
};

PlanSummary summarise_plan(const PreparedExperiment& prepared, const std::filesystem::path& db, int slots, bool gpu,
                           const Shard& shard);

nlohmann::json to_json(const PlanSummary& summary);

}  // namespace tenfold

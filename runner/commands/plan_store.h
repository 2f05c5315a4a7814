#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <unordered_map>

#include "experiments/spec.h"

namespace tenfold {

struct StoredUnit {
  bool done = false;
  bool failed = false;
  double wall_s = -1;  // of its undisturbed attempt; -1: there is none
};

// Fits and trials of a store by their identity, and the mean time of units by their array key.
struct StoredUnits {
  std::unordered_map<std::string, StoredUnit> fits, trials;  // trials of the experiment `name`
  std::unordered_map<std::string, double> fit_wall_s, trial_wall_s;
};

// A fit that went another way than `policy` takes is not there for it (db/nonfinite_fits.h).
StoredUnits read_stored_units(const std::filesystem::path& db, const std::string& name, const NonFiniteSpec& policy);

}  // namespace tenfold

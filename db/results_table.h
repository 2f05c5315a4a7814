#pragma once

#include <filesystem>
#include <string>

namespace tenfold {

// The table at the end of a run: per configuration the trials, each metric before and after adaptation (mean and
// sd over folds), its change with a corrected 95 % interval, entropy and diversity of the first and last pass.
// At most about 110 columns. Throws Error(config) for an unknown experiment.
std::string results_table(const std::filesystem::path& db, const std::string& experiment_name);

}  // namespace tenfold

#pragma once

#include <filesystem>
#include <string>

namespace tenfold {

// One experiment from end to end: configuration, inner loop, data, model, training, performance, training dynamics,
// overfitting, insights, and what to change where a measured condition says so. Per configuration, over folds.
//   name: an experiment, or experiment/label for one configuration
//   format: text, markdown, json, csv
// Throws Error(config) for names that the store does not have, and when nothing is finished yet.
std::string experiment_report(const std::filesystem::path& db, const std::string& name, const std::string& format);

}  // namespace tenfold

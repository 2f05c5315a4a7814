#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "db/sqlite.h"

// What a report reads of an experiment, as plain structs. Only the current revision.
namespace tenfold {

struct ConfigurationInfo {
  std::int64_t id = 0;
  std::string label;
  std::string method;             // empty: imported
  std::optional<int> batch_size;  // of adaptation
  std::optional<int> query_size;  // 0: all of the fold
  std::vector<std::string> metrics;
  std::vector<std::pair<std::string, std::string>> parameters;
};

struct ExperimentInfo {
  std::int64_t id = 0;
  std::string name;
  bool imported = false;
  std::vector<ConfigurationInfo> configurations;  // in the order of the file
};

// `name` is an experiment or experiment/label (then one configuration). Throws Error(config) naming what there is.
ExperimentInfo select_experiment(Connection& connection, const std::string& name);

// The part of `experiment` with this label, if it has one.
std::optional<ExperimentInfo> with_label(const ExperimentInfo& experiment, const std::string& label);

struct TrialInfo {
  std::int64_t id = 0;
  std::int64_t repeat = 0, fold = 0;
  std::string status;
  std::string split_hash;  // empty: imported
  double test_share = 0;   // n_test/n_train; NaN: unknown
  std::int64_t test_n = 0;
  std::int64_t classes = 0;  // 0: unknown
};
std::vector<TrialInfo> trials_of(Connection& connection, std::int64_t configuration);

// Last value of each metric in a phase.
std::map<std::string, double> final_values(Connection& connection, std::int64_t trial, const std::string& phase);

// Metric names that `configurations` ask for, or have: those of the experiment file first, in its order.
std::vector<std::string> metrics_of(Connection& connection, const ExperimentInfo& experiment);

bool higher_is_better(const std::string& metric);
bool is_share(const std::string& metric);  // a share of samples, shown in per cent

// q = n_test/n_train for the corrected variance: the mean over the trials; with k folds of unknown size 1/(k - 1).
double test_share(const std::vector<TrialInfo>& trials);

// A stored specification to be parsed: as it is, or empty where its brackets are nested deeper than any of ours, which
// copying and writing would follow down until the stack ends. A store may come from anywhere.
std::string_view readable_json(std::string_view text);

}  // namespace tenfold

#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "db/selection.h"

// The numbers of the experiment report (db/report_experiment.h), computed from the store.
namespace tenfold {

enum class Topic { performance, dynamics, overfitting, insights };

// One quantity over the folds of a configuration.
struct Measure {
  Topic topic;
  std::string name;
  int digits = 4;
  std::vector<double> folds;
};

struct DatasetFacts {
  std::string kind, label_kind, shape;
  std::int64_t samples = 0, classes = 0, steps = 0, shortest = 0, longest = 0, features = 0;
  double smallest_value = 0, largest_value = 0;       // NaN: unknown
  std::vector<double> train_n, validation_n, test_n;  // by fold
};

struct MeasuredConfiguration {
  ConfigurationInfo configuration;
  std::string specification;    // JSON
  std::int64_t parameters = 0;  // 0: unknown
  DatasetFacts data;
  std::vector<Measure> measures;
  std::int64_t folds = 0;     // trials whose training is done
  std::int64_t left_out = 0;  // others
  const Measure* find(const std::string& name) const;
};

MeasuredConfiguration measure_configuration(Connection& connection, const ConfigurationInfo& configuration);

// A configuration's values below `section`, named from there, as text. Without those that its kinds do not read.
std::vector<std::pair<std::string, std::string>> settings_of(const std::string& specification,
                                                             const std::string& section);

}  // namespace tenfold

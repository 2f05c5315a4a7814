#include "db/selection.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "experiments/metric.h"

namespace tenfold {
namespace {

// The store may have been edited by hand: what is not as expected is left out.
void read_specification(const std::string& text, ConfigurationInfo& info) {
  const auto json = nlohmann::json::parse(readable_json(text), nullptr, false);
  if (!json.is_object()) return;
  if (const auto ttt = json.find("ttt"); ttt != json.end() && ttt->is_object()) {
    const auto number = [&](const char* key) -> std::optional<int> {
      const auto value = ttt->find(key);
      return value != ttt->end() && value->is_number_integer() ? std::optional(value->get<int>()) : std::nullopt;
    };
    info.batch_size = number("batch_size");
    info.query_size = number("query_size");
  }
  if (const auto metrics = json.find("metrics"); metrics != json.end() && metrics->is_array())
    for (const auto& metric : *metrics)
      if (metric.is_string()) info.metrics.push_back(metric.get<std::string>());
}

std::vector<ConfigurationInfo> configurations_of(Connection& connection, std::int64_t experiment) {
  Statement select(
      connection,
      "SELECT c.id, c.label, c.method, c.specification FROM configuration c JOIN experiment e "
      "ON e.id = c.experiment AND e.revision = c.revision WHERE c.experiment = ?1 ORDER BY c.position, c.id");
  Statement parameters(connection, "SELECT key, value FROM configuration_parameter WHERE configuration = ?1");
  select.bind(1, experiment);
  std::vector<ConfigurationInfo> configurations;
  while (select.next()) {
    ConfigurationInfo& info = configurations.emplace_back();
    info.id = select.integer(0);
    info.label = select.text(1);
    info.method = select.text(2);
    read_specification(select.text(3), info);
    parameters.bind(1, info.id);
    while (parameters.next()) info.parameters.emplace_back(parameters.text(0), parameters.text(1));
  }
  return configurations;
}

std::optional<ExperimentInfo> find_experiment(Connection& connection, const std::string& name) {
  Statement select(connection, "SELECT id, name, origin = 'import' FROM experiment WHERE name = ?1");
  if (!select.bind(1, name).next()) return std::nullopt;
  ExperimentInfo info{select.integer(0), select.text(1), select.integer(2) != 0, {}};
  info.configurations = configurations_of(connection, info.id);
  return info;
}

std::string listing(std::vector<std::string> names) {
  constexpr std::size_t kShown = 20;
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < kShown; ++i) text.append(i == 0 ? "" : ", ").append(names[i]);
  if (names.size() > kShown) text += " and " + std::to_string(names.size() - kShown) + " more";
  return text;
}

}  // namespace

std::string_view readable_json(std::string_view text) {
  constexpr int kDeepest = 64;
  int depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '\\')
      ++i;
    else if (c == '"')
      quoted = !quoted;
    else if (!quoted && (c == '[' || c == '{') && ++depth > kDeepest)
      return {};
    else if (!quoted && (c == ']' || c == '}'))
      --depth;
  }
  return text;
}

std::optional<ExperimentInfo> with_label(const ExperimentInfo& experiment, const std::string& label) {
  ExperimentInfo one{experiment.id, experiment.name, experiment.imported, {}};
  for (const ConfigurationInfo& configuration : experiment.configurations)
    if (configuration.label == label) one.configurations.push_back(configuration);
  if (one.configurations.empty()) return std::nullopt;
  return one;
}

ExperimentInfo select_experiment(Connection& connection, const std::string& name) {
  if (auto whole = find_experiment(connection, name)) return *whole;
  // Names and labels may hold slashes themselves.
  for (std::size_t slash = name.find('/'); slash != std::string::npos; slash = name.find('/', slash + 1)) {
    const auto experiment = find_experiment(connection, name.substr(0, slash));
    if (!experiment) continue;
    if (auto one = with_label(*experiment, name.substr(slash + 1))) return *one;
    std::vector<std::string> labels;
    for (const ConfigurationInfo& configuration : experiment->configurations) labels.push_back(configuration.label);
    throw Error(ErrorKind::config, "experiment '" + experiment->name + "' has no configuration '" +
                                       name.substr(slash + 1) + "'; it has: " + listing(labels));
  }
  std::vector<std::string> names;
  Statement select(connection, "SELECT name FROM experiment ORDER BY id");
  while (select.next()) names.push_back(select.text(0));
  throw Error(ErrorKind::config, connection.file().string() + " has no experiment '" + name +
                                     "'; it has: " + (names.empty() ? "none yet" : listing(names)));
}

std::vector<TrialInfo> trials_of(Connection& connection, std::int64_t configuration) {
  Statement select(
      connection,
      "SELECT t.id, t.repeat, t.fold, t.status, f.split_hash, f.test_n * 1.0 / nullif(f.train_n, 0), "
      "f.test_n, d.classes FROM trial t JOIN experiment e ON e.id = t.experiment AND e.revision = t.revision "
      "JOIN fold f ON f.id = t.split LEFT JOIN dataset d ON d.id = f.dataset "
      "WHERE t.configuration = ?1 ORDER BY t.repeat, t.fold, t.id");
  select.bind(1, configuration);
  std::vector<TrialInfo> trials;
  while (select.next())
    trials.push_back({select.integer(0), select.integer(1), select.integer(2), select.text(3), select.text(4),
                      select.real(5), select.integer(6), select.integer(7)});
  return trials;
}

std::map<std::string, double> final_values(Connection& connection, std::int64_t trial, const std::string& phase) {
  Statement select(connection,
                   "SELECT metric, value, max(step) FROM evaluation WHERE trial = ?1 AND phase = ?2 GROUP BY metric");
  select.bind(1, trial).bind(2, phase);
  std::map<std::string, double> values;
  while (select.next()) values[select.text(0)] = select.real(1);
  return values;
}

std::vector<std::string> metrics_of(Connection& connection, const ExperimentInfo& experiment) {
  std::vector<std::string> names;
  const auto add = [&](const std::string& name) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  };
  for (const ConfigurationInfo& configuration : experiment.configurations)
    for (const std::string& metric : configuration.metrics) add(metric);
  Statement select(connection,
                   "SELECT DISTINCT v.metric FROM trial t JOIN evaluation v ON v.trial = t.id "
                   "WHERE t.configuration = ?1 AND v.phase = 'after' ORDER BY 1");
  for (const ConfigurationInfo& configuration : experiment.configurations) {
    select.bind(1, configuration.id);
    while (select.next()) add(select.text(0));
  }
  return names;
}

bool higher_is_better(const std::string& metric) {
  const int index = metric_index(metric);
  return index < 0 || metrics()[index].higher_is_better;
}

bool is_share(const std::string& metric) {
  return metric == "accuracy" || metric == "balanced_accuracy" || metric == "detection_rate_5" ||
         metric == "minimal_pairs";
}

double test_share(const std::vector<TrialInfo>& trials) {
  double sum = 0;
  std::set<std::int64_t> folds;
  for (const TrialInfo& trial : trials) {
    sum += trial.test_share;
    folds.insert(trial.fold);
  }
  if (!trials.empty() && !std::isnan(sum)) return sum / static_cast<double>(trials.size());
  return folds.size() > 1 ? 1.0 / static_cast<double>(folds.size() - 1) : std::nan("");
}

}  // namespace tenfold

#include "db/results_table.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <map>
#include <optional>
#include <vector>

#include "db/reader.h"
#include "db/selection.h"
#include "db/statistics.h"
#include "db/text_table.h"

namespace tenfold {
namespace {

constexpr std::size_t kWidestLabel = 26;  // columns that the other cells leave of 110
constexpr std::size_t kMostRows = 60;     // of a table that is still read
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct MetricResult {
  std::vector<double> before, after, change;  // by fold; pairs with a missing side are left out of `change`
};

struct ConfigurationResult {
  const ConfigurationInfo* info = nullptr;
  std::int64_t done = 0, failed = 0, total = 0;
  double q = kNan;
  std::map<std::string, MetricResult> metrics;
  std::vector<double> first_entropy, last_entropy, first_diversity, last_diversity;
};

ConfigurationResult read_result(Connection& connection, const ConfigurationInfo& info) {
  ConfigurationResult result;
  result.info = &info;
  std::vector<TrialInfo> done;
  for (const TrialInfo& trial : trials_of(connection, info.id)) {
    ++result.total;
    result.failed += trial.status == "failed" ? 1 : 0;
    if (trial.status == "done") done.push_back(trial);
  }
  result.done = static_cast<std::int64_t>(done.size());
  result.q = test_share(done);
  Statement first(connection, "SELECT entropy, diversity FROM ttt_step WHERE trial = ?1 ORDER BY step LIMIT 1");
  Statement last(connection, "SELECT entropy, diversity FROM ttt_step WHERE trial = ?1 ORDER BY step DESC LIMIT 1");
  for (const TrialInfo& trial : done) {
    const auto before = final_values(connection, trial.id, "before");
    for (const auto& [metric, after] : final_values(connection, trial.id, "after")) {
      if (std::isnan(after)) continue;
      MetricResult& values = result.metrics[metric];
      values.after.push_back(after);
      const auto found = before.find(metric);
      if (found == before.end() || std::isnan(found->second)) continue;
      values.before.push_back(found->second);
      values.change.push_back(after - found->second);
    }
    if (first.bind(1, trial.id).next() && !first.is_null(0)) {
      result.first_entropy.push_back(first.real(0));
      result.first_diversity.push_back(first.real(1));
    }
    first.reset();
    if (last.bind(1, trial.id).next() && !last.is_null(0)) {
      result.last_entropy.push_back(last.real(0));
      result.last_diversity.push_back(last.real(1));
    }
    last.reset();
  }
  return result;
}

// Shares in per cent with one digit, everything else with three.
struct Style {
  double factor = 1;
  int digits = 3;
  explicit Style(const std::string& metric) {
    if (is_share(metric)) {
      factor = 100;
      digits = 1;
    }
  }
  std::string number(double value) const { return fixed_number(value * factor, digits); }
  std::string signed_number(double value) const {
    const std::string text = number(value);
    const bool shows_zero = text.find_first_of("123456789") == std::string::npos;
    return value > 0 && !shows_zero ? "+" + text : text;
  }
  std::string spread(const std::vector<double>& values) const {
    if (values.empty()) return "-";
    if (values.size() == 1) return number(values[0]);
    return number(mean(values)) + " ± " + number(sample_sd(values));
  }
  std::string change(const std::vector<double>& values, double q) const {
    if (values.empty()) return "-";
    const CorrectedMean result = corrected_mean(values, q);
    std::string text = signed_number(result.mean);
    if (result.interval)
      text += " [" + signed_number(result.interval->low) + ", " + signed_number(result.interval->high) + "]";
    return text;
  }
};

std::string way(const std::vector<double>& first, const std::vector<double>& last) {
  if (first.empty() || last.empty()) return "-";
  return fixed_number(mean(first), 3) + " -> " + fixed_number(mean(last), 3);
}

std::string trials_text(const ConfigurationResult& result) {
  std::string text = std::to_string(result.done);
  if (result.done != result.total) text += "/" + std::to_string(result.total);
  if (result.failed > 0) text += " (" + std::to_string(result.failed) + " failed)";
  return text;
}

double mean_after(const ConfigurationResult& result, const std::string& metric) {
  const auto found = result.metrics.find(metric);
  return found == result.metrics.end() ? kNan : mean(found->second.after);
}

// The row with the best mean after adaptation; no mark on a single configuration.
std::optional<std::size_t> best(const std::vector<ConfigurationResult>& results, const std::string& metric) {
  std::optional<std::size_t> place;
  if (results.size() < 2) return place;
  for (std::size_t i = 0; i < results.size(); ++i) {
    const double value = mean_after(results[i], metric);
    if (std::isnan(value)) continue;
    const double so_far = place ? mean_after(results[*place], metric) : kNan;
    if (!place || (higher_is_better(metric) ? value > so_far : value < so_far)) place = i;
  }
  return place;
}

std::string last_part(const std::string& key) { return key.substr(key.rfind('.') + 1); }

// What names a row: the label, or where labels are too long the values of the sweep as columns, or a number that is
// explained below the table.
struct Naming {
  std::vector<TextTable::Column> columns;
  std::vector<std::vector<std::string>> cells;  // by configuration
  std::string legend;
};

Naming name_rows(const std::vector<ConfigurationResult>& results) {
  Naming naming;
  std::size_t widest = 0;
  for (const auto& result : results) widest = std::max(widest, display_width(printable(result.info->label)));
  if (widest <= kWidestLabel) {
    naming.columns = {{"configuration", false}};
    for (const auto& result : results) naming.cells.push_back({printable(result.info->label)});
    return naming;
  }
  const auto& keys = results[0].info->parameters;
  const bool alike = !keys.empty() && std::all_of(results.begin(), results.end(), [&](const ConfigurationResult& r) {
    return std::equal(keys.begin(), keys.end(), r.info->parameters.begin(), r.info->parameters.end(),
                      [](const auto& a, const auto& b) { return a.first == b.first; });
  });
  if (alike) {
    std::size_t width = 0;
    for (std::size_t k = 0; k < keys.size(); ++k) {
      naming.columns.push_back({printable(last_part(keys[k].first)), false});
      std::size_t column = display_width(naming.columns.back().name);
      for (const auto& result : results)
        column = std::max(column, display_width(printable(result.info->parameters[k].second)));
      width += column + 2;
    }
    if (width <= kWidestLabel + 6) {
      for (const auto& result : results) {
        auto& cells = naming.cells.emplace_back();
        for (const auto& [key, value] : result.info->parameters) cells.push_back(printable(value));
      }
      return naming;
    }
  }
  naming.columns = {{"no.", true}};
  for (std::size_t i = 0; i < results.size(); ++i) {
    const std::string number = std::to_string(i + 1);
    naming.cells.push_back({number});
    naming.legend += pad(number, 5, true) + "  " + printable(results[i].info->label) + "\n";
  }
  return naming;
}

std::string main_table(const std::vector<ConfigurationResult>& results, const Naming& naming,
                       const std::string& metric) {
  const Style style(metric);
  const auto winner = best(results, metric);
  std::vector<TextTable::Column> columns = naming.columns;
  // The heading tells when everything is done; a column that repeats it would cost the width of a value.
  const bool unfinished = std::any_of(results.begin(), results.end(), [](const auto& r) { return r.done != r.total; });
  if (unfinished) columns.push_back({"trials", true});
  columns.push_back({"before", true});
  columns.push_back({"after", false});
  columns.push_back({"change [95 %]", false});
  columns.push_back({"entropy", true});
  columns.push_back({"diversity", true});
  TextTable table(columns);
  for (std::size_t i = 0; i < results.size(); ++i) {
    const ConfigurationResult& result = results[i];
    const auto found = result.metrics.find(metric);
    const MetricResult none;
    const MetricResult& values = found == result.metrics.end() ? none : found->second;
    std::vector<std::string> cells = naming.cells[i];
    if (unfinished) cells.push_back(trials_text(result));
    cells.push_back(style.spread(values.before));
    cells.push_back(style.spread(values.after) + (winner == i ? " *" : ""));
    cells.push_back(style.change(values.change, result.q));
    cells.push_back(way(result.first_entropy, result.last_entropy));
    cells.push_back(way(result.first_diversity, result.last_diversity));
    table.add(std::move(cells));
  }
  return "  " + metric + (is_share(metric) ? ", %" : "") + "\n" + table.text("  ");
}

std::string other_metrics(const std::vector<ConfigurationResult>& results, const Naming& naming,
                          const std::vector<std::string>& metrics) {
  std::vector<TextTable::Column> columns = naming.columns;
  for (const std::string& metric : metrics) {
    columns.push_back({metric + (is_share(metric) ? " % before" : " before"), true});
    columns.push_back({"after", false});
    columns.push_back({"change [95 %]", false});
  }
  std::vector<std::optional<std::size_t>> winners;
  for (const std::string& metric : metrics) winners.push_back(best(results, metric));
  TextTable table(columns);
  for (std::size_t i = 0; i < results.size(); ++i) {
    std::vector<std::string> cells = naming.cells[i];
    for (std::size_t m = 0; m < metrics.size(); ++m) {
      const Style style(metrics[m]);
      const auto found = results[i].metrics.find(metrics[m]);
      const MetricResult none;
      const MetricResult& values = found == results[i].metrics.end() ? none : found->second;
      cells.push_back(values.before.empty() ? "-" : style.number(mean(values.before)));
      cells.push_back((values.after.empty() ? "-" : style.number(mean(values.after))) + (winners[m] == i ? " *" : ""));
      cells.push_back(style.change(values.change, results[i].q));
    }
    table.add(std::move(cells));
  }
  return table.text("  ");
}

// Longest first is what a sweep makes; best first is what its reader wants once there are too many to see at once.
void shorten(std::vector<ConfigurationResult>& results, const std::string& metric) {
  std::stable_sort(results.begin(), results.end(), [&](const auto& a, const auto& b) {
    const double x = mean_after(a, metric), y = mean_after(b, metric);
    if (std::isnan(x) || std::isnan(y)) return !std::isnan(x) && std::isnan(y);
    return higher_is_better(metric) ? x > y : x < y;
  });
  results.resize(kMostRows);
}

}  // namespace

std::string results_table(const std::filesystem::path& db, const std::string& experiment_name) {
  Reader reader = Reader::open(db);
  Connection& connection = reader.connection();
  connection.execute("BEGIN");
  const ExperimentInfo experiment = select_experiment(connection, experiment_name);
  std::vector<ConfigurationResult> results;
  std::int64_t done = 0, failed = 0, total = 0;
  for (const ConfigurationInfo& info : experiment.configurations) {
    results.push_back(read_result(connection, info));
    done += results.back().done;
    failed += results.back().failed;
    total += results.back().total;
  }
  std::string text = printable(experiment.name) + ": " + std::to_string(done) + " of " + std::to_string(total) +
                     " trials done" + (failed > 0 ? ", " + std::to_string(failed) + " failed" : "") + ", " +
                     std::to_string(results.size()) +
                     (results.size() == 1 ? " configuration\n\n" : " configurations\n\n");
  if (results.empty()) return text;
  std::vector<std::string> metrics = metrics_of(connection, experiment);
  const std::string metric = metrics.empty() ? "accuracy" : metrics[0];
  const std::size_t all = results.size();
  if (all > kMostRows) shorten(results, metric);
  const Naming naming = name_rows(results);
  text += main_table(results, naming, metric);
  if (metrics.size() > 1)
    metrics.erase(metrics.begin());
  else
    metrics.clear();
  for (std::size_t i = 0; i < metrics.size(); i += 2)  // two metrics fit beside each other
    text +=
        "\n" + other_metrics(results, naming, {metrics.begin() + i, metrics.begin() + std::min(i + 2, metrics.size())});
  if (!naming.legend.empty()) text += "\n" + naming.legend;
  if (all > kMostRows)
    text += "\n  The " + std::to_string(kMostRows) + " best of " + std::to_string(all) +
            " configurations; all: tenfold query \"SELECT * FROM leaderboard\"\n";
  text +=
      "\n  mean ± sd over the folds; change: paired by fold, with the 95 % interval of the corrected resampled t\n"
      "  (Nadeau and Bengio 2003); none below 3 folds or without spread.\n"
      "  Entropy and diversity: first -> last pass.";
  if (results.size() > 1) text += " * best mean after.";
  return text + "\n";
}

}  // namespace tenfold

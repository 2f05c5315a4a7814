#include "db/report_ttt_loss.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "db/reader.h"
#include "db/report_document.h"
#include "db/statistics.h"
#include "db/text_table.h"
#include "db/ttt_loss_brought.h"
#include "db/ttt_loss_sections.h"

namespace tenfold {
namespace {

std::string interval_text(const CorrectedMean& result, int digits, double factor = 1) {
  if (!result.interval) return "none: " + result.why_not;
  return "[" + Cell::signed_number(result.interval->low * factor, digits).text() + ", " +
         Cell::signed_number(result.interval->high * factor, digits).text() + "]";
}

// Imported rows that no weight explains have none; and all rows.
std::pair<std::int64_t, std::int64_t> unexplained_rows(const Curves& curves) {
  std::int64_t unexplained = 0, rows = 0;
  for (const FoldCurve& fold : curves.folds)
    for (const LossPoint& point : fold.points) {
      ++rows;
      unexplained += std::isnan(point.diversity_weight) ? 1 : 0;
    }
  return {unexplained, rows};
}

std::vector<std::string> summary(const LossReportInput& input, const std::vector<Brought>& results) {
  std::vector<std::string> sentences;
  for (std::size_t i = 0; i < input.curves.size(); ++i) {
    const Curves& curves = input.curves[i];
    const Reduction total = reduction(curves, Quantity::total);
    std::string text =
        name_of(curves, input) + ": total " + fixed_number(total.first, 4) + " -> " + fixed_number(total.last, 4);
    if (!std::isnan(total.percent)) text += " (" + Cell::signed_number(-total.percent, 1).text() + " %)";
    text += " over " + folds_text(curves.folds.size());
    const auto first = std::find_if(results.begin(), results.end(), [&](const Brought& b) { return b.curves == i; });
    if (first != results.end()) {
      const CorrectedMean change = corrected_mean(first->change, curves.q);
      const int digits = is_share(first->metric) ? 2 : 4;
      text += "; " + first->metric + " " + Cell::signed_number(change.mean, digits).text() +
              (is_share(first->metric) ? " points" : "");
      text += change.interval
                  ? ", 95 % interval " + interval_text(change, digits) +
                        (change.interval->low <= 0 && change.interval->high >= 0 ? ", which includes 0" : "")
                  : " (no interval: " + change.why_not + ")";
    }
    text += ".";
    if (curves.left_out > 0)
      text += " Left out: " + std::to_string(curves.left_out) + (curves.left_out == 1 ? " trial" : " trials") +
              " not done or without rows.";
    const auto [unexplained, rows] = unexplained_rows(curves);
    if (unexplained > 0)
      text += " In " + std::to_string(unexplained) + " of " + std::to_string(rows) +
              " rows the total is not entropy + w diversity for the w that fits best.";
    sentences.push_back(std::move(text));
  }
  return sentences;
}

// Adds the curves of `experiment` that have rows; gives their places.
std::vector<std::size_t> add_curves(Connection& connection, const ExperimentInfo& experiment, LossReportInput& input) {
  std::vector<std::size_t> places;
  for (const ConfigurationInfo& configuration : experiment.configurations) {
    const auto known = std::find_if(input.curves.begin(), input.curves.end(),
                                    [&](const Curves& c) { return c.configuration.id == configuration.id; });
    if (known != input.curves.end()) {
      places.push_back(static_cast<std::size_t>(known - input.curves.begin()));
      continue;
    }
    Curves curves = load_curves(connection, experiment, configuration);
    if (curves.folds.empty()) continue;
    places.push_back(input.curves.size());
    input.curves.push_back(std::move(curves));
  }
  if (places.empty())
    throw Error(ErrorKind::config, "'" + printable(experiment.name) +
                                       "' has no finished trial with adaptation losses yet; see tenfold status");
  for (const std::string& metric : metrics_of(connection, experiment))
    if (std::find(input.metrics.begin(), input.metrics.end(), metric) == input.metrics.end())
      input.metrics.push_back(metric);
  return places;
}

// What --against names when it is no label of the experiment itself; a mistake may have meant one.
ExperimentInfo select_other(Connection& connection, const ExperimentInfo& own, const std::string& against) {
  try {
    return select_experiment(connection, against);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::config) throw;
    std::string labels;
    for (const ConfigurationInfo& configuration : own.configurations)
      labels += (labels.empty() ? "" : ", ") + printable(configuration.label);
    throw Error(ErrorKind::config, std::string(error.what()) + "; configurations of '" + printable(own.name) +
                                       "' to compare with: " + labels);
  }
}

std::vector<std::pair<std::size_t, std::size_t>> choose_pairs(const LossReportInput& input,
                                                              const std::vector<std::size_t>& these,
                                                              const std::vector<std::size_t>& those) {
  std::vector<std::pair<std::size_t, std::size_t>> pairs;
  for (const std::size_t a : these)
    for (const std::size_t b : those) {
      const bool all = these.size() == 1 || those.size() == 1;
      if (a != b && (all || input.curves[a].configuration.label == input.curves[b].configuration.label))
        pairs.emplace_back(a, b);
    }
  return pairs;
}

}  // namespace

std::string ttt_loss_report(const std::filesystem::path& db, const std::string& name,
                            const std::optional<std::string>& against, int interval, const std::string& format) {
  check_report_format(format);
  if (interval < 1) throw Error(ErrorKind::config, "report: the step interval must be at least 1");
  Reader reader = Reader::open(db);
  Connection& connection = reader.connection();
  connection.execute("BEGIN");
  LossReportInput input;
  input.interval = interval;
  const ExperimentInfo experiment = select_experiment(connection, name);
  const std::vector<std::size_t> these = add_curves(connection, experiment, input);
  if (against) {
    // A label of the experiment itself comes first: its other configurations are not in a selection of one.
    const ExperimentInfo whole = select_experiment(connection, experiment.name);
    const auto own = with_label(whole, *against);
    const std::vector<std::size_t> those =
        add_curves(connection, own ? *own : select_other(connection, whole, *against), input);
    input.pairs = choose_pairs(input, these, those);
    if (input.pairs.empty())
      throw Error(ErrorKind::config,
                  "'" + printable(name) + "' and '" + printable(*against) +
                      "' have no configurations of equal labels to compare; name one with experiment/label");
  } else if (these.size() == 2) {
    input.pairs = {{these[0], these[1]}};
  }
  const std::vector<Brought> results = brought(input);
  ReportDocument document;
  document.title = "TTT losses of " + printable(name) + (against ? " against " + printable(*against) : "");
  document.sentences = summary(input, results);
  document.sections = {per_fold_section(input),   averages_section(input),    reductions_section(input),
                       comparison_section(input), convergence_section(input), brought_section(input, results)};
  return render(document, format);
}

}  // namespace tenfold

#include "db/report_ttt_loss.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "db/reader.h"
#include "db/report_document.h"
#include "db/statistics.h"
#include "db/text_table.h"
#include "db/ttt_loss_comparison.h"
#include "db/ttt_loss_data.h"

namespace tenfold {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr Quantity kRecorded[] = {Quantity::total, Quantity::entropy, Quantity::diversity};

struct ReportInput {
  std::vector<Curves> curves;
  std::vector<std::pair<std::size_t, std::size_t>> pairs;  // compared: (this, against)
  std::vector<std::string> metrics;
  int interval = 10;
};

// How a configuration is called: with its experiment where two are shown.
std::string name_of(const Curves& curves, const ReportInput& input) {
  const bool one = std::all_of(input.curves.begin(), input.curves.end(),
                               [&](const Curves& other) { return other.experiment == curves.experiment; });
  const std::string& label = curves.configuration.label;
  return printable(one ? label : curves.experiment + "/" + label);
}

bool is_shown(std::int64_t step, std::int64_t first, std::int64_t last, int interval) {
  return step == first || step == last || step % interval == 0;
}

std::string folds_text(std::size_t folds) { return std::to_string(folds) + (folds == 1 ? " fold" : " folds"); }

std::string interval_text(const CorrectedMean& result, int digits, double factor = 1) {
  if (!result.interval) return "none: " + result.why_not;
  return "[" + Cell::signed_number(result.interval->low * factor, digits).text() + ", " +
         Cell::signed_number(result.interval->high * factor, digits).text() + "]";
}

ReportSection per_fold(const ReportInput& input) {
  ReportSection section{"1. Losses per fold", {}, {}, {}};
  for (const Curves& curves : input.curves) {
    ReportTable table{"per_fold",
                      name_of(curves, input),
                      "configuration",
                      {"repeat", "fold", "step", "total", "entropy", "diversity"},
                      {}};
    for (const FoldCurve& fold : curves.folds)
      for (const LossPoint& point : fold.points)
        if (is_shown(point.step, fold.points.front().step, fold.points.back().step, input.interval))
          table.rows.push_back({fold.trial.repeat, fold.trial.fold, point.step, Cell::number(point.total, 4),
                                Cell::number(point.entropy, 4), Cell::number(point.diversity, 4)});
    section.tables.push_back(std::move(table));
  }
  return section;
}

ReportSection averages(const ReportInput& input) {
  ReportSection section{"2. Averages over folds", {}, {}, {}};
  bool uneven = false;
  for (const Curves& curves : input.curves) {
    const std::vector<MeanPoint> curve = mean_curve(curves);
    ReportTable table{"averages",
                      name_of(curves, input),
                      "configuration",
                      {"step", "folds", "total", "change of total %", "entropy", "diversity"},
                      {}};
    for (const MeanPoint& point : curve) {
      if (!is_shown(point.step, curve.front().step, curve.back().step, input.interval)) continue;
      uneven |= point.folds != curve.front().folds;
      const double change = curve.front().total != 0 ? 100 * (point.total / curve.front().total - 1) : kNan;
      table.rows.push_back({point.step, point.folds, Cell::number(point.total, 4), Cell::signed_number(change, 1),
                            Cell::number(point.entropy, 4), Cell::number(point.diversity, 4)});
    }
    section.tables.push_back(std::move(table));
  }
  if (uneven) section.notes.push_back("Folds ended at different steps; a row averages those that have it.");
  return section;
}

ReportSection reductions(const ReportInput& input) {
  ReportSection section{"3. Reduction from the first to the last step", {}, {}, {}};
  ReportTable table{
      "reductions", "", "", {"configuration", "quantity", "first", "last", "reduction %", "change per step"}, {}};
  for (const Curves& curves : input.curves)
    for (const Quantity quantity : kRecorded) {
      const Reduction r = reduction(curves, quantity);
      table.rows.push_back({name_of(curves, input), to_string(quantity), Cell::number(r.first, 4),
                            Cell::number(r.last, 4), Cell::number(r.percent, 1), Cell::signed_number(r.per_step, 6)});
    }
  section.tables.push_back(std::move(table));
  section.notes.push_back(
      "Ratios of the averages over folds: (first - last)/first, and (last - first)/(last step - first step).");
  return section;
}

void add_side_by_side(const ReportInput& input, const Curves& a, const Curves& b, ReportSection& section) {
  ReportTable table{"side_by_side",
                    name_of(a, input) + " against " + name_of(b, input),
                    "comparison",
                    {"quantity", "reduction %", "against", "per step", "against per step"},
                    {}};
  for (const Quantity quantity : kCompared) {
    const Reduction x = reduction(a, quantity), y = reduction(b, quantity);
    table.rows.push_back({to_string(quantity), Cell::number(x.percent, 1), Cell::number(y.percent, 1),
                          Cell::signed_number(x.per_step, 6), Cell::signed_number(y.per_step, 6)});
  }
  section.tables.push_back(std::move(table));
}

ReportSection comparison_section(const ReportInput& input) {
  ReportSection section{"4. Comparison", {}, {}, {}};
  if (input.pairs.empty()) {
    section.sentences.push_back("Nothing to compare; name another configuration or experiment with --against.");
    return section;
  }
  std::vector<std::vector<Comparison>> all;
  std::vector<double> p_values;
  for (const auto& [first, second] : input.pairs) {
    const Curves &a = input.curves[first], &b = input.curves[second];
    std::size_t paired = 0;
    all.push_back(compare(a, b, input.metrics, paired));
    add_side_by_side(input, a, b, section);
    const std::size_t lost = a.folds.size() + b.folds.size() - 2 * paired;
    if (lost > 0)
      section.notes.push_back(name_of(a, input) + " against " + name_of(b, input) + ": " + folds_text(lost) +
                              " without a partner of the same samples left out.");
    for (const Comparison& comparison : all.back())
      if (comparison.difference.p) p_values.push_back(*comparison.difference.p);
  }
  const std::vector<double> adjusted = holm(p_values);
  std::size_t next = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Curves &a = input.curves[input.pairs[i].first], &b = input.curves[input.pairs[i].second];
    ReportTable table{"paired_differences",
                      name_of(a, input) + " minus " + name_of(b, input) + ", paired by fold",
                      "comparison",
                      {"quantity", "this", "against", "difference", "95 % low", "95 % high", "folds", "p (Holm)"},
                      {}};
    for (const Comparison& c : all[i]) {
      const auto& interval = c.difference.interval;
      table.rows.push_back(
          {c.what, Cell::number(c.a, c.digits), Cell::number(c.b, c.digits),
           Cell::signed_number(c.difference.mean, c.digits), Cell::number(interval ? interval->low : kNan, c.digits),
           Cell::number(interval ? interval->high : kNan, c.digits), static_cast<std::int64_t>(c.difference.n),
           Cell::number(c.difference.p ? adjusted[next] : kNan, 4)});
      next += c.difference.p ? 1 : 0;
    }
    section.tables.push_back(std::move(table));
  }
  section.notes.push_back(
      "Intervals and p: corrected resampled t (Nadeau and Bengio 2003); p adjusted by Holm over all differences of "
      "this "
      "section.");
  section.notes.push_back(
      "A finite batch makes the mean prediction noisy and raises diversity, more so in small batches. Batch-corrected "
      "diversity is 1 - h, h the class entropy of the whole pass, so it can be compared across batch sizes.");
  return section;
}

ReportSection convergence_section(const ReportInput& input) {
  ReportSection section{"5. Convergence", {}, {}, {}};
  ReportTable table{"convergence", "", "", {"what"}, {}};
  std::vector<Convergence> results;
  for (const Curves& curves : input.curves) results.push_back(convergence(curves));
  // Side by side: one row a configuration when there are many, one column each when there are two.
  table.columns = {"configuration",  "falling steps %", "noise",           "slope of last fifth",
                   "standard error", "at the end",      "opposed steps %", "diversity term %",
                   "grad norm",      "largest"};
  ReportTable collapse{"collapse",
                       "Signs of collapse",
                       "",
                       {"configuration", "lowest h", "last h", "folds below 0.8", "fewest classes",
                        "largest class share", "batch bias bound", "diversity - (1 - h)"},
                       {}};
  for (std::size_t i = 0; i < input.curves.size(); ++i) {
    const Curves& curves = input.curves[i];
    const Convergence& c = results[i];
    const std::string end = std::isnan(c.tail_slope)                    ? "too short"
                            : c.tail_slope + 2 * c.tail_slope_error < 0 ? "falling"
                            : c.tail_slope - 2 * c.tail_slope_error > 0 ? "rising"
                                                                        : "level";
    table.rows.push_back({name_of(curves, input), Cell::number(100 * c.monotone_share, 0), Cell::number(c.noise, 5),
                          Cell::signed_number(c.tail_slope, 6), Cell::number(c.tail_slope_error, 6), end,
                          Cell::number(100 * c.opposed_share, 0), Cell::number(100 * c.diversity_share, 1),
                          Cell::number(c.mean_grad_norm, 3), Cell::number(c.largest_grad_norm, 3)});
    const double bias =
        reduction(curves, Quantity::diversity).last - reduction(curves, Quantity::corrected_diversity).last;
    if (std::isnan(c.lowest_class_entropy) && std::isnan(c.fewest_classes)) continue;
    collapse.rows.push_back({name_of(curves, input), Cell::number(c.lowest_class_entropy, 3),
                             Cell::number(c.last_class_entropy, 3), c.collapsed_folds,
                             Cell::number(c.fewest_classes, 0), Cell::number(c.largest_class_share, 3),
                             Cell::number(batch_bias_bound(curves), 4), Cell::number(bias, 4)});
    if (c.collapsed_folds > 0)
      section.sentences.push_back(name_of(curves, input) + ": class entropy fell below 0.8 in " +
                                  std::to_string(c.collapsed_folds) + " of " + folds_text(curves.folds.size()) +
                                  " (lowest " + fixed_number(c.lowest_class_entropy, 3) + "), a sign of collapse.");
  }
  section.tables.push_back(std::move(table));
  section.tables.push_back(std::move(collapse));
  section.notes.push_back(
      "Noise: sd of the total's step differences. At the end: falling or rising when the slope of the averaged total "
      "over the last fifth of the steps is beyond two standard errors (neighbouring steps are correlated, so the error "
      "is a lower bound). Opposed: entropy and diversity moved in opposite directions. Diversity term: share of "
      "w * diversity in the last total. h: entropy of the mean prediction over log C. Batch bias bound: (C - 1)/(2 B "
      "log C), reached by balanced one-hot predictions; beside it the difference measured at the last step.");
  return section;
}

struct Brought {
  std::size_t curves = 0;
  std::string metric;
  std::vector<double> before, after, change;
};

std::vector<Brought> brought(const ReportInput& input) {
  std::vector<Brought> all;
  for (std::size_t i = 0; i < input.curves.size(); ++i)
    for (const std::string& metric : input.metrics) {
      Brought result{i, metric, {}, {}, {}};
      const double factor = is_share(metric) ? 100 : 1;
      for (const FoldCurve& fold : input.curves[i].folds) {
        const auto before = fold.before.find(metric), after = fold.after.find(metric);
        if (before == fold.before.end() || after == fold.after.end()) continue;
        if (std::isnan(before->second) || std::isnan(after->second)) continue;
        result.before.push_back(factor * before->second);
        result.after.push_back(factor * after->second);
        result.change.push_back(factor * (after->second - before->second));
      }
      if (!result.change.empty()) all.push_back(std::move(result));
    }
  return all;
}

std::string shown_metric(const std::string& metric) { return metric + (is_share(metric) ? " %" : ""); }

ReportSection what_it_brought(const ReportInput& input, const std::vector<Brought>& results) {
  ReportSection section{"6. What it brought", {}, {}, {}};
  if (results.empty()) {
    section.sentences.push_back("No metrics before and after adaptation are in the store.");
    return section;
  }
  ReportTable summary{
      "brought",
      "Before and after, averaged over folds",
      "",
      {"configuration", "metric", "before", "after", "change", "95 % low", "95 % high", "folds", "folds better"},
      {}};
  for (const Brought& b : results) {
    const Curves& curves = input.curves[b.curves];
    const CorrectedMean change = corrected_mean(b.change, curves.q);
    const int digits = is_share(b.metric) ? 2 : 4;
    const bool up = higher_is_better(b.metric);
    const auto better = std::count_if(b.change.begin(), b.change.end(), [&](double d) { return up ? d > 0 : d < 0; });
    summary.rows.push_back({name_of(curves, input), shown_metric(b.metric), Cell::number(mean(b.before), digits),
                            Cell::number(mean(b.after), digits), Cell::signed_number(change.mean, digits),
                            Cell::number(change.interval ? change.interval->low : kNan, digits),
                            Cell::number(change.interval ? change.interval->high : kNan, digits),
                            static_cast<std::int64_t>(change.n), static_cast<std::int64_t>(better)});
  }
  section.tables.push_back(std::move(summary));
  for (const Curves& curves : input.curves) {
    ReportTable table{"brought_per_fold",
                      name_of(curves, input),
                      "configuration",
                      {"repeat", "fold", "metric", "before", "after", "change"},
                      {}};
    for (const FoldCurve& fold : curves.folds)
      for (const std::string& metric : input.metrics) {
        const auto before = fold.before.find(metric), after = fold.after.find(metric);
        if (before == fold.before.end() || after == fold.after.end()) continue;
        const double factor = is_share(metric) ? 100 : 1;
        const int digits = is_share(metric) ? 2 : 4;
        table.rows.push_back({fold.trial.repeat, fold.trial.fold, shown_metric(metric),
                              Cell::number(factor * before->second, digits),
                              Cell::number(factor * after->second, digits),
                              Cell::signed_number(factor * (after->second - before->second), digits)});
      }
    section.tables.push_back(std::move(table));
  }
  section.notes.push_back(
      "Changes are paired by fold; the interval is that of the corrected resampled t. Shares in per cent.");
  return section;
}

std::vector<std::string> summary(const ReportInput& input, const std::vector<Brought>& results) {
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
      text += "; " + shown_metric(first->metric) + " " + Cell::signed_number(change.mean, digits).text();
      text += change.interval
                  ? ", 95 % interval " + interval_text(change, digits) +
                        (change.interval->low <= 0 && change.interval->high >= 0 ? ", which includes 0" : "")
                  : " (no interval: " + change.why_not + ")";
    }
    text += ".";
    if (curves.left_out > 0)
      text += " Left out: " + std::to_string(curves.left_out) + " trials not done or without rows.";
    sentences.push_back(std::move(text));
  }
  return sentences;
}

// Adds the curves of `experiment` that have rows; gives their places.
std::vector<std::size_t> add_curves(Connection& connection, const ExperimentInfo& experiment, ReportInput& input) {
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

std::vector<std::pair<std::size_t, std::size_t>> choose_pairs(const ReportInput& input,
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
  ReportInput input;
  input.interval = interval;
  const ExperimentInfo experiment = select_experiment(connection, name);
  const std::vector<std::size_t> these = add_curves(connection, experiment, input);
  if (against) {
    // A label of the experiment itself comes first: its other configurations are not in a selection of one.
    const ExperimentInfo whole = select_experiment(connection, experiment.name);
    const auto own = with_label(whole, *against);
    const std::vector<std::size_t> those =
        add_curves(connection, own ? *own : select_experiment(connection, *against), input);
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
  document.sections = {per_fold(input),
                       averages(input),
                       reductions(input),
                       comparison_section(input),
                       convergence_section(input),
                       what_it_brought(input, results)};
  return render(document, format);
}

}  // namespace tenfold

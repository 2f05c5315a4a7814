#include "db/ttt_loss_brought.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "db/statistics.h"

namespace tenfold {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::string shown_metric(const std::string& metric) { return metric + (is_share(metric) ? " %" : ""); }

}  // namespace

std::vector<Brought> brought(const LossReportInput& input) {
  std::vector<Brought> all;
  for (const std::string& metric : input.metrics)
    for (std::size_t i = 0; i < input.curves.size(); ++i) {
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

ReportSection brought_section(const LossReportInput& input, const std::vector<Brought>& results) {
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
                            Cell::signed_number(change.interval ? change.interval->low : kNan, digits),
                            Cell::signed_number(change.interval ? change.interval->high : kNan, digits),
                            static_cast<std::int64_t>(change.n), static_cast<std::int64_t>(better)});
  }
  section.tables.push_back(std::move(summary));
  for (const Curves& curves : input.curves) {
    ReportTable table{"brought_per_fold",
                      name_of(curves, input),
                      "configuration",
                      {"repeat", "fold", "metric", "before", "after", "change"},
                      {}};
    for (const std::string& metric : input.metrics)  // outside: values of one kind below each other
      for (const FoldCurve& fold : curves.folds) {
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

}  // namespace tenfold

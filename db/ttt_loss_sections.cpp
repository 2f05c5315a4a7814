#include "db/ttt_loss_sections.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "db/statistics.h"
#include "db/text_table.h"
#include "db/ttt_loss_comparison.h"

namespace tenfold {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr Quantity kRecorded[] = {Quantity::total, Quantity::entropy, Quantity::diversity};

bool is_shown(std::int64_t step, std::int64_t first, std::int64_t last, int interval) {
  return step == first || step == last || step % interval == 0;
}

void add_side_by_side(const LossReportInput& input, const Curves& a, const Curves& b, ReportSection& section) {
  ReportTable table{"side_by_side",
                    name_of(a, input) + " against " + name_of(b, input),
                    "comparison",
                    {"quantity", "reduction %", "against: reduction %", "change per step", "against: change per step"},
                    {}};
  for (const Quantity quantity : kCompared) {
    const Reduction x = reduction(a, quantity), y = reduction(b, quantity);
    table.rows.push_back({to_string(quantity), Cell::number(x.percent, 1), Cell::number(y.percent, 1),
                          Cell::signed_number(x.per_step, 7), Cell::signed_number(y.per_step, 7)});
  }
  section.tables.push_back(std::move(table));
}

}  // namespace

std::string name_of(const Curves& curves, const LossReportInput& input) {
  const bool one = std::all_of(input.curves.begin(), input.curves.end(),
                               [&](const Curves& other) { return other.experiment == curves.experiment; });
  const std::string& label = curves.configuration.label;
  return printable(one ? label : curves.experiment + "/" + label);
}

std::string folds_text(std::size_t folds) { return std::to_string(folds) + (folds == 1 ? " fold" : " folds"); }

ReportSection per_fold_section(const LossReportInput& input) {
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

ReportSection averages_section(const LossReportInput& input) {
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

ReportSection reductions_section(const LossReportInput& input) {
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

ReportSection comparison_section(const LossReportInput& input) {
  ReportSection section{"4. Comparison", {}, {}, {}};
  if (input.pairs.empty()) {
    std::string text = "Nothing to compare; --against takes another configuration, by its label, or another experiment";
    if (input.curves.size() > 1)
      text += ": tenfold report '" + printable(input.curves[0].experiment + "/" + input.curves[0].configuration.label) +
              "' --against '" + printable(input.curves.back().configuration.label) + "'";
    section.sentences.push_back(text + ".");
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
      table.rows.push_back({c.what, Cell::number(c.a, c.digits), Cell::number(c.b, c.digits),
                            Cell::signed_number(c.difference.mean, c.digits),
                            Cell::signed_number(interval ? interval->low : kNan, c.digits),
                            Cell::signed_number(interval ? interval->high : kNan, c.digits),
                            static_cast<std::int64_t>(c.difference.n),
                            Cell::number(c.difference.p ? adjusted[next] : kNan, 4)});
      next += c.difference.p ? 1 : 0;
    }
    section.tables.push_back(std::move(table));
  }
  section.notes.push_back(
      "Intervals and p: corrected resampled t (Nadeau and Bengio 2003); p adjusted by Holm over all differences of "
      "this section.");
  section.notes.push_back(
      "A finite batch makes the mean prediction noisy and raises diversity, more so in small batches. Batch-corrected "
      "diversity is 1 - h, h the class entropy of the whole pass, so it can be compared across batch sizes.");
  return section;
}

ReportSection convergence_section(const LossReportInput& input) {
  ReportSection section{"5. Convergence", {}, {}, {}};
  // Four narrow tables, which a terminal shows beside a long label.
  ReportTable table{"convergence",
                    "Course of the total",
                    "",
                    {"configuration", "falling steps %", "noise", "last fifth slope", "std. error", "at the end"},
                    {}};
  ReportTable terms{"terms",
                    "Terms and gradients",
                    "",
                    {"configuration", "w", "diversity term %", "opposed steps %", "grad norm", "largest grad norm"},
                    {}};
  ReportTable collapse{"collapse",
                       "Signs of collapse",
                       "",
                       {"configuration", "lowest h", "last h", "folds h < 0.8", "fewest classes", "largest share"},
                       {}};
  ReportTable bias{"batch_bias",
                   "What the batch adds to diversity",
                   "",
                   {"configuration", "batch", "bound", "diversity, last", "1 - h, last", "difference"},
                   {}};
  for (std::size_t i = 0; i < input.curves.size(); ++i) {
    const Curves& curves = input.curves[i];
    const Convergence c = convergence(curves);
    const std::string end = std::isnan(c.tail_slope)                    ? "too short"
                            : c.tail_slope + 2 * c.tail_slope_error < 0 ? "falling"
                            : c.tail_slope - 2 * c.tail_slope_error > 0 ? "rising"
                                                                        : "level";
    const std::string name = name_of(curves, input);
    table.rows.push_back({name, Cell::number(100 * c.monotone_share, 0), Cell::number(c.noise, 5),
                          Cell::signed_number(c.tail_slope, 6), Cell::number(c.tail_slope_error, 6), end});
    terms.rows.push_back({name, Cell::number(c.diversity_weight, 4), Cell::number(100 * c.diversity_share, 1),
                          Cell::number(100 * c.opposed_share, 0), Cell::number(c.mean_grad_norm, 3),
                          Cell::number(c.largest_grad_norm, 3)});
    if (std::isnan(c.lowest_class_entropy) && std::isnan(c.fewest_classes)) continue;
    collapse.rows.push_back({name, Cell::number(c.lowest_class_entropy, 3), Cell::number(c.last_class_entropy, 3),
                             c.collapsed_folds, Cell::number(c.fewest_classes, 0),
                             Cell::number(c.largest_class_share, 3)});
    const double raw = reduction(curves, Quantity::diversity).last;
    const double corrected = reduction(curves, Quantity::corrected_diversity).last;
    const auto& batch = curves.configuration.batch_size;
    bias.rows.push_back({name, batch ? Cell(static_cast<std::int64_t>(*batch)) : Cell(),
                         Cell::number(batch_bias_bound(curves), 4), Cell::number(raw, 4), Cell::number(corrected, 4),
                         Cell::signed_number(raw - corrected, 4)});
    if (c.collapsed_folds > 0)
      section.sentences.push_back(name_of(curves, input) + ": class entropy fell below 0.8 in " +
                                  std::to_string(c.collapsed_folds) + " of " + folds_text(curves.folds.size()) +
                                  " (lowest " + fixed_number(c.lowest_class_entropy, 3) + "), a sign of collapse.");
  }
  for (ReportTable* each : {&table, &terms, &collapse, &bias}) section.tables.push_back(std::move(*each));
  section.notes.push_back(
      "Falling: steps at which the total fell, over all folds. Noise: sd of the total's step differences. At the end: "
      "falling or rising when the slope per step of the averaged total over the last fifth of the steps is beyond two "
      "standard errors (neighbouring steps are correlated, so the error is a lower bound).");
  section.notes.push_back(
      "Diversity term: share of w * diversity in the last total. Opposed: steps at which entropy and diversity moved "
      "in "
      "opposite directions. Gradient norms: before clipping, mean and largest over steps and folds.");
  section.notes.push_back(
      "h: entropy of the mean prediction of a whole pass over log C; 1 is even, below 0.8 a sign of collapse. Fewest "
      "classes: distinct ones predicted in a pass; largest share: of the most frequent one. Bound of what a batch of B "
      "adds to diversity: (C - 1)/(2 B log C), reached by balanced one-hot predictions.");
  return section;
}

}  // namespace tenfold

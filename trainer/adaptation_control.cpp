#include "trainer/adaptation_control.h"

#include <cstdio>

namespace tenfold {

double AdaptationControl::lr(const TttSpec& spec, std::int64_t pass) const {
  const ScheduleSpec schedule = spec.schedule.value_or(ScheduleSpec{});
  const double rate = scheduled_lr(schedule, spec.lr.value_or(0), pass, spec.steps.value_or(1));
  return schedule.kind == "plateau" ? plateau.lr(schedule, rate) : rate;
}

std::string AdaptationControl::look(const TttSpec& spec, const TttStepRow& row) {
  if (spec.schedule && spec.schedule->kind == "plateau") plateau.look(*spec.schedule, row.total);
  if (looked == 0 || row.total < best_total - spec.stop.min_delta) {
    best_total = row.total;
    passes_without_gain = 0;
  } else {
    passes_without_gain += 1;
  }
  looked += 1;
  const auto stop = [&](const char* format, double value, double bound) {
    finished_at = static_cast<double>(row.step);
    char text[160];
    std::snprintf(text, sizeof text, format, value, bound, static_cast<long long>(row.step));
    return std::string(text);
  };
  if (spec.stop.collapse_below > 0 && row.class_entropy < spec.stop.collapse_below)
    return stop("collapse guard: class entropy %.3f fell below %.3f at pass %lld", row.class_entropy,
                spec.stop.collapse_below);
  if (spec.stop.patience > 0 && row.step >= spec.stop.after && passes_without_gain >= spec.stop.patience)
    return stop("no improvement of the total in %.0f passes (patience %.0f) at pass %lld", passes_without_gain,
                spec.stop.patience);
  return {};
}

}  // namespace tenfold

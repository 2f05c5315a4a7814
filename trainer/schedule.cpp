#include "trainer/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tenfold {

double scheduled_lr(const ScheduleSpec& spec, double lr, std::int64_t step, std::int64_t steps) {
  if (step < spec.warmup_steps) return lr * static_cast<double>(step + 1) / spec.warmup_steps;
  const auto s = static_cast<double>(step - spec.warmup_steps);
  const auto total = static_cast<double>(std::max<std::int64_t>(1, steps - spec.warmup_steps));
  double rate = lr;
  if (spec.kind == "cosine")
    rate = spec.min_lr + (lr - spec.min_lr) * (1 + std::cos(std::numbers::pi * std::min(1.0, s / total))) / 2;
  else if (spec.kind == "step")
    rate = lr * std::pow(spec.factor, std::floor(s / spec.step_size));
  return std::max(rate, std::min(lr, spec.min_lr));
}

void PlateauState::look(const ScheduleSpec& spec, double value) {
  const bool better = std::isfinite(value) && (looked == 0 || value < best - std::abs(best) * spec.threshold);
  if (better) {
    best = value;
    bad = 0;
    looked += 1;
  } else {
    bad += 1;
  }
  if (bad > spec.patience) {
    factor *= spec.factor;
    bad = 0;
  }
}

double PlateauState::lr(const ScheduleSpec& spec, double lr) const {
  return std::max(lr * factor, std::min(lr, spec.min_lr));
}

}  // namespace tenfold

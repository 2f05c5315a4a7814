#pragma once

#include <cstdint>

#include "experiments/spec.h"

namespace tenfold {

// The rate of update (or pass) `step`, from 0, of `steps` in all, for every kind but plateau, whose factor comes on
// top (PlateauState). After `warmup_steps` linear from lr/warmup:
//   constant: lr;  cosine: min + (lr - min)(1 + cos(pi s/S))/2;  step: lr factor^floor(s/step_size)
// with s, S counted after the warm-up. Never below min_lr (but for the warm-up).
double scheduled_lr(const ScheduleSpec& spec, double lr, std::int64_t step, std::int64_t steps);

// Reduce on plateau: when `value` has not fallen below best - threshold |best| for more than `patience` looks in a row,
// the factor is multiplied by spec.factor (torch.optim.lr_scheduler.ReduceLROnPlateau, mode min, rel; there a negative
// best counts slightly worse values as better, here it does not). A value that is not finite is never better.
struct PlateauState {
  double best = 0;
  double factor = 1;
  double bad = 0;
  double looked = 0;  // times that best was set; 0: it is not set yet
  void look(const ScheduleSpec& spec, double value);
  double lr(const ScheduleSpec& spec, double lr) const;
};

}  // namespace tenfold

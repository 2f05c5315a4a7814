#pragma once

#include <cstdint>
#include <string>

#include "experiments/records.h"
#include "experiments/spec.h"
#include "trainer/schedule.h"

namespace tenfold {

// The host's side of a trial's adaptation, looked at once a pass: the rate of the next pass and the guards that
// stop it. Free of LibTorch. Kept in checkpoints as doubles.
struct AdaptationControl {
  PlateauState plateau;
  double best_total = 0;
  double passes_without_gain = 0;
  double looked = 0;
  double finished_at = -1;  // the last pass done when a guard stopped the trial; -1: none did

  // The rate of pass `pass` (from 0) of the resolved spec.
  double lr(const TttSpec& spec, std::int64_t pass) const;
  // After a pass: moves the plateau, and stops by collapse (class entropy h below spec.stop.collapse_below) or
  // by patience. Returns why it stops, or an empty string.
  std::string look(const TttSpec& spec, const TttStepRow& row);
};

}  // namespace tenfold

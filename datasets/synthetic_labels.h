#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "experiments/spec.h"

// Lengths and labels of synthetic_sequences; datasets/README.md has the law.
namespace tenfold {

// Sites of Purpose::synthetic: of a sequence's step, of a sequence as a whole, of tables. Disjoint for all values that
// the keys of the experiment file allow.
constexpr std::uint64_t sequence_site(std::uint64_t sequence, std::uint64_t step) {
  return ((sequence + 1) << 24) | step;
}
constexpr std::uint64_t kLabelStep = (1 << 24) - 1;  // "step" of a sequence's labels

// (samples) steps, exactly min_steps and max_steps at the ends, mean_steps on average as nearly as whole numbers allow.
std::vector<std::int64_t> synthetic_lengths(const DatasetSpec& spec);

// One step: its class and where in its segment it lies.
struct SyntheticStep {
  std::int32_t label;
  float progress;  // in (0, 1): (place + 1/2) / steps of the segment as drawn, before the sequence's end cuts it
};

// Segments of 4 to 9 steps. A segment's class is followed by one of three others, the class's own successors, with
// probability 0.85, else by any other.
std::vector<SyntheticStep> synthetic_steps(const DatasetSpec& spec, std::int64_t sequence, std::int64_t steps);

}  // namespace tenfold

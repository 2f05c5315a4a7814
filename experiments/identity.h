#pragma once

#include "experiments/hash.h"
#include "experiments/plan.h"
#include "experiments/spec.h"

namespace tenfold {

// Raised when the same specification gives other numbers than before (a change of the mathematics or of the random
// streams): stored results then no longer count as done.
inline constexpr int kResultsVersion = 1;

// Identities say what a result depends on. They are hashes over resolved values: numbers by their shortest text, keys
// in sorted order, keys left out that equal the default they were introduced with. Name, resources (but for
// ranks_per_trial), checkpoints, retries and on_nonfinite never count.

// Of the part of the specification that a fit depends on: model, train, seed, deterministic, normalisation.
Digest fit_content(const ExperimentSpec& spec);
// Of what a trial depends on besides: shift, ttt, metrics.
Digest trial_content(const ExperimentSpec& spec);

Digest fit_identity(const Digest& fit_content, const DatasetSummary& data, const SplitSummary& split);
Digest trial_identity(const Digest& fit_identity, const Digest& trial_content);
// Of a fit that belongs to one trial alone (--no-share).
Digest unshared_fit_identity(const Digest& trial_identity);

// What values that were not finite did to a fit that did not fail of them.
struct NonFiniteCourse {
  bool stopped = false;           // where it was, and what was finite was kept
  double rate_scale = 1;          // of its learning rate
  std::int64_t rate_lowered = 0;  // times
};
// Whether the fit would have gone the same way under this policy.
bool goes_alike(const NonFiniteCourse& course, const NonFiniteSpec& policy);
// Of a fit that a store has already, but gone a way that this policy does not take.
Digest fit_identity_apart(const Digest& fit_identity, const NonFiniteSpec& policy);

}  // namespace tenfold

#pragma once

#include <vector>

#include "trainer/array.h"

namespace tenfold {

// Adapts the members of a trial array to the unlabelled held-out folds, from their fits' parameters, and measures
// the metrics before and after. Reports ttt_step rows, evaluations, checkpoints at pass boundaries, outcomes. Labels
// reach the metrics alone: adaptation is given features.
//
// Members are computed as lanes. With `reset: fold` a member is one lane; with `reset: batch` every batch of its
// adaptation set is a lane of its own, which starts from the fit's parameters: batches are independent, so they stack.
void run_adapt_array(const ArrayContext& context, std::vector<ArrayMember> members);

}  // namespace tenfold

#pragma once

#include <vector>

#include "trainer/array.h"

namespace tenfold {

// Trains the members of a fit array from their initial values (or their checkpoints) to the end: supervised cross
// entropy on the training part of each one's fold, early stopping and plateaus on its validation part. Reports
// train_step rows, train and validation metrics, checkpoints, and at last a checkpoint with `last` set, which
// the fit's trials start from.
void run_fit_array(const ArrayContext& context, std::vector<ArrayMember> members);

}  // namespace tenfold

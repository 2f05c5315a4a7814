#pragma once

#include "db/store.h"
#include "runner/planning.h"

namespace tenfold {

// Before anything is computed: every trial that is left to do must find its slots (resources.ranks_per_trial), and a
// trial over several GPUs needs each of them for itself. `gpus`: how many all slots are on; 0: that is not known here.
// Throws Error(config) with the places in the file, one a line.
void check_group_sizes(const PreparedExperiment& prepared, const RegisteredPlan& registered, int slots, bool gpu,
                       int gpus = 0);

}  // namespace tenfold

#pragma once

#include "runner/rank_settings.h"

namespace tenfold {

// One rank of an MPI world, whoever started it: rank 0 coordinates, the others work. Returns the exit code.
int run_in_world(const RankOptions& options);

}  // namespace tenfold

#pragma once

#include "trainer/checkpoint.h"

namespace tenfold {

// write_checkpoint where the array can go on without: a file that cannot be written (disk full, permission lost) is
// told by the notice (protocol_checkpoint.h).
CheckpointNotice try_checkpoint(const ArrayJob& job, std::int64_t step, const StackedTensors& tensors);

}  // namespace tenfold

#include "trainer/optional_checkpoint.h"

#include "experiments/error.h"
#include "trainer/protocol_checkpoint.h"

namespace tenfold {

CheckpointNotice try_checkpoint(const ArrayJob& job, std::int64_t step, const StackedTensors& tensors) {
  try {
    return write_checkpoint(job, step, tensors);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::storage) throw;
    return checkpoint_left_out(step, error.what());
  }
}

}  // namespace tenfold

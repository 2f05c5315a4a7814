#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "trainer/collective.h"

namespace tenfold {

// Sums by NCCL, one GPU a rank; the link carries NCCL's id and what hosts tell each other. Everything of NCCL is on one
// stream beside the computing one, joined by events, so that a step with its sums is captured as one graph.
//
// A GPU that waits for a rank which never comes cannot be talked out of it: a thread watches while the host waits, and
// ends the process (exit code 5) when a rank is gone, when NCCL reports an error or when nothing has moved for a minute
// (ten times the longest step, or five minutes before the first). It watches work that all ranks have begun. Throws Error(communication) or Error(device).
std::unique_ptr<Collective> make_nccl_collective(std::unique_ptr<GroupLink> link, at::Device device);

}  // namespace tenfold

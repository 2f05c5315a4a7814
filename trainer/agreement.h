#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "trainer/collective.h"

namespace tenfold {

// Whether these tensors have the same bits on all ranks of a group. Throws Error(internal) on a rank that has others
// than the leader: what it computes on is no longer the trial.
void expect_agreement(Collective& group, const std::vector<at::Tensor>& tensors);

}  // namespace tenfold

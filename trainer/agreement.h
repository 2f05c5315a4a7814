#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "trainer/array.h"
#include "trainer/collective.h"

namespace tenfold {

// Whether these tensors have the same bits on all ranks of a group. Throws Error(internal) on a rank that has others
// than the leader: what it computes on is no longer the trial.
void expect_agreement(Collective& group, const std::vector<at::Tensor>& tensors);

// (updates, lanes, rows of a rank, ...) of every rank, as one; as it is where there is no group.
at::Tensor of_all_ranks(const ArrayContext& context, const at::Tensor& rows);

}  // namespace tenfold

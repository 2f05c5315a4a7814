#pragma once

#include <vector>

#include "trainer/checkpoint.h"
#include "trainer/fit_member.h"
#include "trainer/last_finite.h"
#include "trainer/optimizer.h"

namespace tenfold {

// What a checkpoint of a fit holds: parameters and buffers, the optimizer's moments, the best ones for early stopping,
// the last finite ones where a fit may be put back to them, each member's progression, when its gates were last
// reported, and how it ends where it is at rest already. A trained fit's last one holds parameters and buffers, and
// how it ended where that was not as planned.
struct FitState {
  const Model& model;
  ModelState& state;
  const std::vector<std::size_t>& trained;  // places of the parameters that the optimizer has
  StackedOptimizer& optimizer;
  std::vector<at::Tensor>& best_parameters;  // empty without early stopping
  std::vector<at::Tensor>& best_buffers;
  std::vector<FitMember>& members;
  LastFinite* last_finite;  // null where nothing is put back
};

StackedTensors save_fit(const FitState& fit, std::int64_t step);
// Parameters and buffers of some members, for the trials that start from them.
StackedTensors save_trained(const FitState& fit, const std::vector<std::int64_t>& members);

// Continues member k where its job's resume checkpoint left it; a last checkpoint makes it `complete`. Throws
// Error(data).
void restore_fit(const FitState& fit, std::int64_t k, CheckpointReader& reader);

}  // namespace tenfold

#pragma once

#include <vector>

#include "trainer/adapt_members.h"
#include "trainer/checkpoint.h"
#include "trainer/kept_lanes.h"
#include "trainer/optimizer.h"

namespace tenfold {

// What a checkpoint of an adaptation holds: adapted parameters, their moments, buffers, and each member's control; what
// members may be put back to; where one is at rest and not yet evaluated, how it ends. What does not adapt is in the
// fit's checkpoint. Tensors of lanes are stored as (K, lanes of a member, ...).
struct AdaptationState {
  const Model& model;
  ModelState& state;
  const std::vector<std::size_t>& adapted;  // indices of parameters
  StackedOptimizer* optimizer;              // null for methods without a loss
  std::vector<AdaptMember>& members;
  KeptLanes* kept;  // null where nothing is put back
};

StackedTensors save_adaptation(const AdaptationState& adaptation, std::int64_t pass);

// Continues every member that has a checkpoint to resume from where that left it. The array that wrote it may have had
// more or fewer lanes without samples (`reset: batch`). Throws Error(data).
void restore_adaptation(const AdaptationState& adaptation);

}  // namespace tenfold

#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "trainer/array.h"
#include "trainer/member_end.h"
#include "trainer/optimizer.h"
#include "trainer/schedule.h"

namespace tenfold {

// What a member carries from evaluation to evaluation; kept in checkpoints as doubles.
struct Progression {
  PlateauState plateau;
  double best_validation = std::numeric_limits<double>::infinity();
  double evaluations_without_gain = 0;
  double finished_at = -1;  // the update after which the member stopped; -1: it goes on
};
static_assert(sizeof(Progression) == 7 * sizeof(double));

struct FitMember : MemberEnd {
  ArrayMember base;
  std::int64_t epoch_updates = 0, total_updates = 0, eval_every = 0;
  Progression progression;
  std::int64_t cached_epoch = -1;
  std::vector<std::int64_t> order;                 // of the cached epoch: fixed samples
  std::vector<std::vector<std::int64_t>> batches;  // of the cached epoch: sequences
  std::int64_t failed_at = 0;
  std::int64_t gates_at = -1;  // the update after which gates were last reported
  bool complete = false;       // resumed from its last checkpoint: only its outcome is missing
  bool at_rest(std::int64_t step) const {
    return !failure.empty() || complete || progression.finished_at >= 0 || step >= total_updates;
  }
  std::int64_t updates_done(std::int64_t step) const {
    if (!failure.empty()) return failed_at;
    return progression.finished_at >= 0 ? static_cast<std::int64_t>(progression.finished_at)
                                        : std::min(step, total_updates);
  }
};

// What an array of fits begins with.
std::vector<std::int32_t> one_lane_each(std::size_t members);  // 0, 1, 2, ...
ModelState initial_states(const std::vector<ArrayMember>& members, const ModelLayout& layout, at::Device device);
std::vector<UpdateRule> rules_of(const std::vector<ArrayMember>& members);
// Groups of the trained parameters and their rates; nothing where all are of one group at one rate.
OptimizerGroups optimizer_groups(const std::vector<ArrayMember>& members, const ModelLayout& layout,
                                 const std::vector<std::size_t>& trained);
// Places of the parameters that train.parameters selects; nothing for `none`.
std::vector<std::size_t> trained_parameters(const ModelLayout& layout, const TrainSpec& train);

}  // namespace tenfold

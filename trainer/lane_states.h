#pragma once

#include <span>
#include <vector>

#include "trainer/adapt_members.h"
#include "trainer/model.h"

namespace tenfold {

// The parameters that the members' fits ended with, a slice per lane, on the device. Throws Error(data).
ModelState load_lane_states(const Model& model, std::span<const AdaptMember> members,
                            std::span<const std::int32_t> lane_member, const at::Device& device);

// One slice per member, that of its first lane: before adaptation, and with one lane a member, the member's own.
ModelState first_lanes(const ModelState& lanes, std::int64_t members);

at::Tensor first_lanes(const at::Tensor& lanes, std::size_t members);  // (lanes, ...) of one tensor

}  // namespace tenfold

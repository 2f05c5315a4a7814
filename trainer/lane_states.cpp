#include "trainer/lane_states.h"

#include <ATen/ATen.h>

#include "experiments/error.h"

namespace tenfold {

ModelState load_lane_states(const Model& model, std::span<const AdaptMember> members,
                            std::span<const std::int32_t> lane_member, const at::Device& device) {
  const ModelState like = initial_state(model.layout(), 0, 0, 0);
  std::vector<ModelState> by_member, by_lane;
  CheckpointReader reader;
  for (const AdaptMember& member : members) {
    const auto& fit = member.base.job.fit;
    if (!fit) throw Error(ErrorKind::internal, "a trial was dispatched without its fit's parameters");
    ModelState& state = by_member.emplace_back();
    for (const at::Tensor& parameter : like.parameters) state.parameters.push_back(at::empty_like(parameter));
    for (const at::Tensor& buffer : like.buffers) state.buffers.push_back(at::empty_like(buffer));
    restore_state(model, reader.read(*fit), state, 0);
  }
  for (const std::int32_t index : lane_member) by_lane.push_back(by_member[static_cast<std::size_t>(index)]);
  return stack_states(by_lane, device);
}

at::Tensor first_lanes(const at::Tensor& lanes, std::size_t members) {
  const auto count = static_cast<std::int64_t>(members);
  return lanes.detach().unflatten(0, {count, lanes.size(0) / count}).select(1, 0).contiguous();
}

ModelState first_lanes(const ModelState& lanes, std::int64_t members) {
  const std::int64_t count = lanes.parameters.front().size(0);
  if (count == members) return lanes;
  const auto first = [&](const at::Tensor& tensor) {
    return tensor.detach().unflatten(0, {members, count / members}).select(1, 0).contiguous();
  };
  ModelState state;
  for (const at::Tensor& parameter : lanes.parameters) state.parameters.push_back(first(parameter));
  for (const at::Tensor& buffer : lanes.buffers) state.buffers.push_back(first(buffer));
  return state;
}

}  // namespace tenfold

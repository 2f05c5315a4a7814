#include "trainer/fit_member.h"

#include <ATen/ATen.h>

namespace tenfold {

std::vector<std::int32_t> one_lane_each(std::size_t members) {
  std::vector<std::int32_t> lanes(members);
  for (std::size_t i = 0; i < members; ++i) lanes[i] = static_cast<std::int32_t>(i);
  return lanes;
}

ModelState initial_states(const std::vector<ArrayMember>& members, const ModelLayout& layout, at::Device device) {
  std::vector<ModelState> states;
  for (const ArrayMember& member : members)
    states.push_back(initial_state(layout, member.spec.seed, member.job.repeat, member.job.fold));
  ModelState state = stack_states(states, device);
  for (at::Tensor& parameter : state.parameters) parameter.requires_grad_(true);
  return state;
}

std::vector<UpdateRule> rules_of(const std::vector<ArrayMember>& members) {
  std::vector<UpdateRule> rules;
  for (const ArrayMember& member : members)
    rules.push_back(update_rule(member.spec.train.optimizer, member.spec.train.clip_norm.value_or(0)));
  return rules;
}

Model model_of(const ArrayMember& member) {
  const Dataset& data = *member.fold->dataset->host;
  return Model(member.spec.model, data.sample_shape(), data.classes(), member.spec.deterministic);
}

}  // namespace tenfold

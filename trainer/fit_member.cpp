#include "trainer/fit_member.h"

#include <ATen/ATen.h>

#include "trainer/published_checkpoint.h"

namespace tenfold {

std::vector<std::int32_t> one_lane_each(std::size_t members) {
  std::vector<std::int32_t> lanes(members);
  for (std::size_t i = 0; i < members; ++i) lanes[i] = static_cast<std::int32_t>(i);
  return lanes;
}

ModelState initial_states(const std::vector<ArrayMember>& members, const ModelLayout& layout, at::Device device) {
  std::vector<ModelState> states;
  for (const ArrayMember& member : members) {
    // Initial gates may differ within an array: each by its own layout.
    const Dataset& data = *member.fold->dataset->host;
    states.push_back(initial_state(model_layout(member.spec.model, data.sample_shape(), data.classes()),
                                   member.spec.seed, member.job.repeat, member.job.fold));
    if (const std::string& checkpoint = member.spec.model.checkpoint; !checkpoint.empty())
      load_published_parameters(checkpoint, layout, states.back());
  }
  ModelState state = stack_states(states, device);
  return state;
}

std::vector<UpdateRule> rules_of(const std::vector<ArrayMember>& members) {
  std::vector<UpdateRule> rules;
  for (const ArrayMember& member : members)
    rules.push_back(update_rule(member.spec.train.optimizer, member.spec.train.clip_norm.value_or(0)));
  return rules;
}

OptimizerGroups optimizer_groups(const std::vector<ArrayMember>& members, const ModelLayout& layout,
                                 const std::vector<std::size_t>& trained) {
  OptimizerGroups groups;
  bool told_apart = false, rates = false;
  for (const std::size_t i : trained) {
    groups.of.push_back(layout.parameters[i].group);
    told_apart |= groups.of.back() != groups.of.front();
  }
  for (const ArrayMember& member : members) {
    const GroupRatesSpec& given = member.spec.train.group_lr;
    rates |= given.ttt || given.gate || given.lora || given.base;
    groups.factors.push_back(group_factors(member.spec.train));
  }
  if (!told_apart && !rates) return {};
  if (!rates) groups.factors.clear();
  groups.norms = told_apart;
  return groups;
}

std::vector<std::size_t> trained_parameters(const ModelLayout& layout, const TrainSpec& train) {
  std::vector<std::size_t> trained;
  if (trains_nothing(train)) return trained;
  const std::vector<bool> selected = select_parameters(layout, train.parameters, "train.parameters");
  for (std::size_t i = 0; i < selected.size(); ++i)
    if (selected[i]) trained.push_back(i);
  return trained;
}

}  // namespace tenfold

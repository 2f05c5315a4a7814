#include "trainer/optimizer.h"

#include <ATen/ATen.h>

#include "experiments/error.h"

namespace tenfold {

StackedOptimizer::StackedOptimizer(const Compute& compute, bool adam, std::vector<UpdateRule> rules,
                                   std::vector<at::Tensor> parameters, const OptimizerGroups& groups)
    : compute_(compute), rules_(std::move(rules)) {
  const auto options = at::TensorOptions(at::kFloat).device(compute.device());
  const auto members = static_cast<std::int64_t>(rules_.size());
  for (const at::Tensor& parameter : parameters) {
    arguments_.moment1.push_back(at::zeros(parameter.sizes(), options));
    if (adam) arguments_.moment2.push_back(at::zeros(parameter.sizes(), options));
  }
  arguments_.adam = adam;
  arguments_.parameters = std::move(parameters);
  arguments_.applied = at::zeros({members}, options);
  arguments_.grad_norm = at::zeros({members}, options);
  static_assert(sizeof(UpdateRule) == 8 * sizeof(float));
  if (!compute.device().is_cpu())
    arguments_.device_rules = at::from_blob(rules_.data(), {members, 8}, at::kFloat).to(compute.device());
  if (groups.factors.empty() && !groups.norms) return;
  if (groups.of.size() != arguments_.parameters.size() ||
      (!groups.factors.empty() && groups.factors.size() != rules_.size()))
    throw Error(ErrorKind::internal, "an optimizer's groups are not those of its parameters and members");
  for (const ParameterGroup group : groups.of) arguments_.groups.push_back(static_cast<std::int32_t>(group));
  if (!compute.device().is_cpu())
    arguments_.device_groups = at::tensor(arguments_.groups, at::kInt).to(compute.device());
  if (!groups.factors.empty()) {
    std::vector<GroupFactors> factors = groups.factors;
    arguments_.rate_factors =
        at::from_blob(factors.data(), {members, kParameterGroups}, at::kFloat).clone().to(compute.device());
  }
  if (groups.norms) {
    arguments_.group_grad_norms = at::zeros({members, kParameterGroups}, options);
    arguments_.group_update_norms = at::zeros({members, kParameterGroups}, options);
  }
}

at::Tensor StackedOptimizer::update(const std::vector<at::Tensor>& gradients, const at::Tensor& lr,
                                    const at::Tensor& active) {
  at::NoGradGuard no_grad;
  arguments_.rules = &rules_;  // here, so that a moved optimizer points at its own
  arguments_.gradients = gradients;
  arguments_.lr = lr;
  arguments_.active = active;
  compute_.update(arguments_);
  arguments_.gradients.clear();
  return arguments_.grad_norm;
}

GroupFactors group_factors(const TrainSpec& spec) {
  const GroupRatesSpec& rates = spec.group_lr;
  GroupFactors factors;
  factors.fill(1);
  const auto set = [&](ParameterGroup group, const std::optional<double>& rate) {
    if (!rate) return;
    if (spec.optimizer.lr == 0)
      throw Error(ErrorKind::config, std::string("train.group_lr.") + to_string(group) +
                                         " cannot be scheduled beside train.optimizer.lr: 0; give that the rate of the "
                                         "groups that train, and 0 to the others in train.group_lr");
    factors[static_cast<std::size_t>(group)] = static_cast<float>(*rate / spec.optimizer.lr);
  };
  set(ParameterGroup::base, rates.base);
  set(ParameterGroup::ttt, rates.ttt);
  set(ParameterGroup::gate, rates.gate);
  set(ParameterGroup::lora, rates.lora);
  return factors;
}

UpdateRule update_rule(const OptimizerSpec& spec, double clip_norm) {
  UpdateRule rule;
  rule.weight_decay = static_cast<float>(spec.weight_decay);
  rule.beta1 = static_cast<float>(spec.beta1);
  rule.beta2 = static_cast<float>(spec.beta2);
  rule.eps = static_cast<float>(spec.eps);
  rule.momentum = static_cast<float>(spec.momentum);
  rule.clip_norm = static_cast<float>(clip_norm);
  rule.nesterov = spec.nesterov ? 1.0f : 0.0f;
  rule.decoupled = spec.kind == "adamw" ? 1.0f : 0.0f;
  return rule;
}

UpdateRule update_rule(const TttSpec& spec) {
  OptimizerSpec optimizer;
  optimizer.kind = spec.optimizer.kind.value();
  optimizer.weight_decay = spec.optimizer.weight_decay.value();
  optimizer.beta1 = spec.optimizer.beta1;
  optimizer.beta2 = spec.optimizer.beta2;
  optimizer.eps = spec.optimizer.eps;
  optimizer.momentum = spec.optimizer.momentum;
  optimizer.nesterov = spec.optimizer.nesterov;
  return update_rule(optimizer, spec.clip_norm.value_or(0));
}

}  // namespace tenfold

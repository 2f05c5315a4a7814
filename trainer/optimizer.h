#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <vector>

#include "experiments/records.h"
#include "experiments/spec.h"
#include "trainer/compute.h"

namespace tenfold {

// SGD, Adam or AdamW over K members at once, each with its own rates, as a function of tensors: step count and rates
// live beside the parameters, so that a captured CUDA graph can apply it. With t updates applied, g the gradient
// clipped to norm c:
//   adamw: p <- p - lr wd p;  m <- b1 m + (1-b1) g;  v <- b2 v + (1-b2) g^2
//          p <- p - lr m / (1-b1^t) / (sqrt(v / (1-b2^t)) + eps)          (Loshchilov and Hutter 2019)
//   adam:  the same with wd p added to g instead                          (Kingma and Ba 2015)
//   sgd:   g += wd p;  b <- momentum b + g;  p <- p - lr b, or p - lr (g + momentum b) with nesterov
// Clipping (Pascanu et al. 2013) scales by min(1, c / (norm + 1e-6)) as torch.nn.utils.clip_grad_norm_, with the norm
// over the parameters of all groups. Rates relative to the member's own, by group (train.group_lr): lr of a group is lr
// * factor, through any schedule.
using GroupFactors = std::array<float, kParameterGroups>;

// Throws Error(config) where a group has a rate and optimizer.lr, which schedules move, is 0.
GroupFactors group_factors(const TrainSpec& spec);

// What is told apart by group of parameters; nothing by default.
struct OptimizerGroups {
  std::vector<ParameterGroup> of;     // of each parameter
  std::vector<GroupFactors> factors;  // one per member; empty: all 1
  bool norms = false;                 // of gradients and changes, see group_grad_norms()
};

class StackedOptimizer {
 public:
  // One rule per member; `adam` false is SGD. parameters: those that adapt, each (K, ...).
  StackedOptimizer(const Compute& compute, bool adam, std::vector<UpdateRule> rules, std::vector<at::Tensor> parameters,
                   const OptimizerGroups& groups = {});

  // Updates the members whose active is 1. lr, active (K). Returns the gradients' norms (K) before clipping.
  at::Tensor update(const std::vector<at::Tensor>& gradients, const at::Tensor& lr, const at::Tensor& active);

  // Of the last update, (K, groups) by ParameterGroup's numbers: the gradients' norms before clipping and those of what
  // changed, 0 where a member rests or has no such parameters. Undefined unless OptimizerGroups::norms.
  const at::Tensor& group_grad_norms() const { return arguments_.group_grad_norms; }
  const at::Tensor& group_update_norms() const { return arguments_.group_update_norms; }

  // State for checkpoints, each (K, ...); moment2 is empty for SGD.
  std::vector<at::Tensor>& moment1() { return arguments_.moment1; }
  std::vector<at::Tensor>& moment2() { return arguments_.moment2; }
  at::Tensor& applied() { return arguments_.applied; }

 private:
  const Compute& compute_;
  std::vector<UpdateRule> rules_;
  UpdateArguments arguments_;
};

UpdateRule update_rule(const OptimizerSpec& spec, double clip_norm);
UpdateRule update_rule(const TttSpec& spec);  // resolved

}  // namespace tenfold

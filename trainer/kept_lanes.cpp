#include "trainer/kept_lanes.h"

#include <ATen/ATen.h>

namespace tenfold {

KeptLanes::KeptLanes(const ModelState& state, const std::vector<std::size_t>& adapted) : adapted_(adapted) {
  for (const std::size_t i : adapted_) parameters_.push_back(state.parameters[i].detach().clone());
  for (const at::Tensor& buffer : state.buffers) buffers_.push_back(buffer.detach().clone());
}

void KeptLanes::keep(const ModelState& state) {
  for (std::size_t i = 0; i < adapted_.size(); ++i) parameters_[i].copy_(state.parameters[adapted_[i]].detach());
  for (std::size_t i = 0; i < buffers_.size(); ++i) buffers_[i].copy_(state.buffers[i].detach());
}

bool KeptLanes::put_back_nonfinite(ModelState& state, std::vector<AdaptMember>& members, std::int64_t pass) const {
  const std::int64_t lanes = state.parameters.front().size(0) / static_cast<std::int64_t>(members.size());
  bool any = false;
  for (std::size_t k = 0; k < members.size(); ++k) {
    AdaptMember& member = members[k];
    if (!member.nonfinite || member.failure.empty() || member.put_back || member.passes_done == 0) continue;
    put_back(state, static_cast<std::int64_t>(k) * lanes, lanes);
    member.put_back = any = true;
    member.passes = member.passes_done = pass;
    member.stopped = member.failure + "; the model is kept as it was before that pass";
    member.failure.clear();
  }
  return any;
}

void KeptLanes::put_back(ModelState& state, std::int64_t first_lane, std::int64_t lanes) const {
  const at::NoGradGuard no_grad;
  const auto copy = [&](const at::Tensor& to, const at::Tensor& from) {
    to.detach().narrow(0, first_lane, lanes).copy_(from.narrow(0, first_lane, lanes));
  };
  for (std::size_t i = 0; i < adapted_.size(); ++i) copy(state.parameters[adapted_[i]], parameters_[i]);
  for (std::size_t i = 0; i < buffers_.size(); ++i) copy(state.buffers[i], buffers_[i]);
}

void KeptLanes::visit(const ModelLayout& layout, const std::function<void(const std::string&, at::Tensor&)>& visit) {
  for (std::size_t i = 0; i < adapted_.size(); ++i) visit(layout.parameters[adapted_[i]].name, parameters_[i]);
  for (std::size_t i = 0; i < buffers_.size(); ++i) visit(layout.buffers[i].name, buffers_[i]);
}

}  // namespace tenfold

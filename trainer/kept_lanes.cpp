#include "trainer/kept_lanes.h"

#include <ATen/ATen.h>

#include <utility>

namespace tenfold {

KeptLanes::KeptLanes(const ModelState& state, const std::vector<std::size_t>& adapted) : adapted_(adapted) {
  for (Values& values : kept_) {
    for (const std::size_t i : adapted_) values.parameters.push_back(state.parameters[i].detach().clone());
    for (const at::Tensor& buffer : state.buffers) values.buffers.push_back(buffer.detach().clone());
  }
}

void KeptLanes::keep(const ModelState& state) {
  std::swap(kept_[0], kept_[1]);
  Values& now = kept_[0];
  for (std::size_t i = 0; i < adapted_.size(); ++i) now.parameters[i].copy_(state.parameters[adapted_[i]].detach());
  for (std::size_t i = 0; i < now.buffers.size(); ++i) now.buffers[i].copy_(state.buffers[i].detach());
}

bool KeptLanes::put_back_nonfinite(ModelState& state, std::vector<AdaptMember>& members, std::int64_t pass) const {
  const std::int64_t lanes = state.parameters.front().size(0) / static_cast<std::int64_t>(members.size());
  bool any = false;
  for (std::size_t k = 0; k < members.size(); ++k) {
    AdaptMember& member = members[k];
    if (!member.nonfinite || member.failure.empty() || member.passes_done == 0) continue;
    const auto back = static_cast<std::size_t>(member.put_back);
    if (back >= kept_.size()) continue;
    put_back(state, kept_[back], static_cast<std::int64_t>(k) * lanes, lanes);
    any = true;
    ++member.put_back;
    member.passes = member.passes_done = pass - static_cast<std::int64_t>(back);
    member.stopped = member.failure + "; the model is kept as it was before that pass";
    member.failure.clear();
  }
  return any;
}

void KeptLanes::put_back(ModelState& state, const Values& values, std::int64_t first_lane, std::int64_t lanes) const {
  const at::NoGradGuard no_grad;
  const auto copy = [&](const at::Tensor& to, const at::Tensor& from) {
    to.detach().narrow(0, first_lane, lanes).copy_(from.narrow(0, first_lane, lanes));
  };
  for (std::size_t i = 0; i < adapted_.size(); ++i) copy(state.parameters[adapted_[i]], values.parameters[i]);
  for (std::size_t i = 0; i < values.buffers.size(); ++i) copy(state.buffers[i], values.buffers[i]);
}

void KeptLanes::visit(const ModelLayout& layout, bool before,
                      const std::function<void(const std::string&, at::Tensor&)>& visit) {
  Values& values = kept_[before ? 1 : 0];
  for (std::size_t i = 0; i < adapted_.size(); ++i) visit(layout.parameters[adapted_[i]].name, values.parameters[i]);
  for (std::size_t i = 0; i < values.buffers.size(); ++i) visit(layout.buffers[i].name, values.buffers[i]);
}

}  // namespace tenfold

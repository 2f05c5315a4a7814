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

void KeptLanes::put_back(ModelState& state, std::int64_t first_lane, std::int64_t lanes) const {
  const at::NoGradGuard no_grad;
  const auto copy = [&](const at::Tensor& to, const at::Tensor& from) {
    to.detach().narrow(0, first_lane, lanes).copy_(from.narrow(0, first_lane, lanes));
  };
  for (std::size_t i = 0; i < adapted_.size(); ++i) copy(state.parameters[adapted_[i]], parameters_[i]);
  for (std::size_t i = 0; i < buffers_.size(); ++i) copy(state.buffers[i], buffers_[i]);
}

}  // namespace tenfold

#include "trainer/last_finite.h"

#include <ATen/ATen.h>

namespace tenfold {

LastFinite::LastFinite(const ModelState& state, const std::vector<std::size_t>& trained) : trained_(trained) {
  for (const at::Tensor& value : values_of(state)) {
    current_.push_back(value.clone());
    finite_.push_back(value.clone());
  }
  const at::Tensor& first = state.parameters.front();
  alive_ = at::ones({first.size(0)}, first.options().dtype(at::kBool).requires_grad(false));
}

std::vector<at::Tensor> LastFinite::values_of(const ModelState& state) const {
  std::vector<at::Tensor> values;
  for (const std::size_t i : trained_) values.push_back(state.parameters[i].detach());
  for (const at::Tensor& buffer : state.buffers) values.push_back(buffer.detach());
  return values;
}

void LastFinite::begin(const ModelState& state) {
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> values = values_of(state);
  for (std::size_t i = 0; i < values.size(); ++i) current_[i].copy_(values[i]);
}

void LastFinite::end(const at::Tensor& loss, const at::Tensor& grad_norm, const at::Tensor& active) {
  const at::NoGradGuard no_grad;
  const at::Tensor computed = active > 0, finite_loss = at::isfinite(loss);
  const at::Tensor takes = alive_ & computed & finite_loss;
  for (std::size_t i = 0; i < finite_.size(); ++i) {
    std::vector<std::int64_t> shape(static_cast<std::size_t>(finite_[i].dim()), 1);
    shape[0] = -1;
    finite_[i].copy_(at::where(takes.view(shape), current_[i], finite_[i]));
  }
  alive_.copy_(alive_ & (computed.logical_not() | (finite_loss & at::isfinite(grad_norm))));
}

void LastFinite::put_back(ModelState& state, std::int64_t k) const {
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> values = values_of(state);
  for (std::size_t i = 0; i < values.size(); ++i) values[i].select(0, k).copy_(finite_[i].select(0, k));
}

void LastFinite::visit(const ModelLayout& layout, const std::function<void(const std::string&, at::Tensor&)>& visit) {
  for (std::size_t i = 0; i < trained_.size(); ++i) visit(layout.parameters[trained_[i]].name, finite_[i]);
  for (std::size_t i = trained_.size(); i < finite_.size(); ++i)
    visit(layout.buffers[i - trained_.size()].name, finite_[i]);
}

void LastFinite::begin_at(const ModelState& state, std::int64_t k) {
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> values = values_of(state);
  for (std::size_t i = 0; i < values.size(); ++i) finite_[i].select(0, k).copy_(values[i].select(0, k));
}

}  // namespace tenfold

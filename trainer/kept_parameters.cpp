#include "trainer/kept_parameters.h"

#include <ATen/ATen.h>

#include <cmath>

namespace tenfold {
namespace {

void copy_member(std::vector<at::Tensor>& to, const std::vector<at::Tensor>& from, std::int64_t k) {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < to.size(); ++i) to[i].select(0, k).copy_(from[i].detach().select(0, k));
}

}  // namespace

KeptParameters::KeptParameters(const ModelState& state, const std::vector<std::size_t>& trained, bool best,
                               bool finite) {
  if (finite) last_finite_ = std::make_unique<LastFinite>(state, trained);
  if (!best) return;
  for (const at::Tensor& parameter : state.parameters) best_parameters_.push_back(parameter.detach().clone());
  for (const at::Tensor& buffer : state.buffers) best_buffers_.push_back(buffer.clone());
}

bool KeptParameters::diverged(FitMember& fit, std::int64_t k, const std::string& what, std::int64_t at,
                              std::int64_t kept, ModelState& state) const {
  fit.nonfinite = true;
  if (!last_finite_ || fit.put_back > 0 || kept < 0) {
    fit.failure = what;
    fit.failed_at = at;
    return false;
  }
  fit.put_back = 1;
  fit.progression.finished_at = static_cast<double>(kept);
  const bool best = !best_parameters_.empty() && std::isfinite(fit.progression.best_validation);
  if (best) {
    copy_member(state.parameters, best_parameters_, k);
    copy_member(state.buffers, best_buffers_, k);
  } else {
    last_finite_->put_back(state, k);
  }
  fit.stopped = what + "; kept is the model " +
                (best ? "that was best on the validation part" : "after update " + std::to_string(kept));
  return true;
}

void KeptParameters::look_at_validation(FitMember& fit, std::int64_t k, double loss, std::int64_t step,
                                        ModelState& state) {
  const TrainSpec& train = fit.base.spec.train;
  Progression& p = fit.progression;
  if (train.schedule.kind == "plateau") p.plateau.look(train.schedule, loss);
  if (train.early_stopping.patience <= 0) return;
  if (loss < p.best_validation - train.early_stopping.min_delta) {
    p.best_validation = loss;
    p.evaluations_without_gain = 0;
    copy_member(best_parameters_, state.parameters, k);
    copy_member(best_buffers_, state.buffers, k);
    return;
  }
  p.evaluations_without_gain += 1;
  const bool out_of_patience = p.evaluations_without_gain >= train.early_stopping.patience;
  if (!out_of_patience && step < fit.total_updates) return;
  p.finished_at = static_cast<double>(step);
  copy_member(state.parameters, best_parameters_, k);
  copy_member(state.buffers, best_buffers_, k);
}

}  // namespace tenfold

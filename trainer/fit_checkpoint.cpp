#include "trainer/fit_checkpoint.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace tenfold {
namespace {

constexpr const char* kGatesAt = "gates_at";
constexpr std::int64_t kProgressionDoubles = sizeof(Progression) / sizeof(double);

// Every tensor that only an unfinished fit needs, with its name in the file.
template <class Visit>
void visit_unfinished(const FitState& fit, Visit visit) {
  const ModelLayout& layout = fit.model.layout();
  for (std::size_t i = 0; i < fit.trained.size(); ++i) {
    const std::string& name = layout.parameters[fit.trained[i]].name;
    visit("moment1/" + name, fit.optimizer.moment1()[i]);
    if (!fit.optimizer.moment2().empty()) visit("moment2/" + name, fit.optimizer.moment2()[i]);
    if (!fit.best_parameters.empty()) visit("best/" + name, fit.best_parameters[fit.trained[i]]);
  }
  for (std::size_t i = 0; i < fit.best_buffers.size(); ++i)
    visit("best/" + layout.buffers[i].name, fit.best_buffers[i]);
  visit("applied", fit.optimizer.applied());
}

std::string finite_name(const std::string& name) { return "finite/" + name; }

}  // namespace

StackedTensors save_fit(const FitState& fit, std::int64_t step) {
  StackedTensors tensors;
  save_state(fit.model, fit.state, tensors);
  visit_unfinished(fit, [&](const std::string& name, const at::Tensor& tensor) { tensors[name] = tensor; });
  if (fit.last_finite != nullptr)
    fit.last_finite->visit(fit.model.layout(), [&](const std::string& name, const at::Tensor& tensor) {
      tensors[finite_name(name)] = tensor;
    });
  at::Tensor progression = at::empty({static_cast<std::int64_t>(fit.members.size()), kProgressionDoubles}, at::kDouble);
  double* values = progression.mutable_data_ptr<double>();
  for (const FitMember& member : fit.members)
    values = std::copy_n(reinterpret_cast<const double*>(&member.progression), kProgressionDoubles, values);
  tensors["progression"] = progression;
  at::Tensor gates_at = at::empty({static_cast<std::int64_t>(fit.members.size())}, at::kLong);
  for (std::size_t k = 0; k < fit.members.size(); ++k)
    gates_at.mutable_data_ptr<std::int64_t>()[k] = fit.members[k].gates_at;
  tensors[kGatesAt] = gates_at;
  const auto at_rest = [&](const FitMember& member) { return !member.over && member.at_rest(step); };
  if (std::any_of(fit.members.begin(), fit.members.end(), at_rest)) {
    std::vector<nlohmann::json> ends;
    for (const FitMember& member : fit.members) ends.push_back(describe_end(member));
    save_ends(ends, tensors);
  }
  return tensors;
}

StackedTensors save_trained(const FitState& fit, const std::vector<std::int64_t>& members) {
  StackedTensors tensors;
  save_state(fit.model, fit.state, tensors);
  const at::Tensor index = at::tensor(members, at::kLong).to(fit.state.parameters.front().device());
  for (auto& [name, tensor] : tensors) tensor = tensor.detach().index_select(0, index);
  std::vector<nlohmann::json> ends;
  bool notable = false;
  for (const std::int64_t k : members) {
    const FitMember& member = fit.members[static_cast<std::size_t>(k)];
    ends.push_back(describe_end(member));
    notable |= member.nonfinite || !member.stopped.empty();
  }
  if (notable) save_ends(ends, tensors);
  return tensors;
}

void restore_fit(const FitState& fit, std::int64_t k, CheckpointReader& reader) {
  FitMember& member = fit.members[static_cast<std::size_t>(k)];
  const MemberTensors saved = reader.read(member.base.job.resume.value());
  restore_state(fit.model, saved, fit.state, k);
  restore_end(saved, member);
  // A kill between a fit's last checkpoint and its outcome: everything is done and reported but the latter.
  member.complete = !saved.has("applied") && !saved.has("progression");
  if (member.complete) return;
  visit_unfinished(fit, [&](const std::string& name, at::Tensor& tensor) { restore(saved, name, tensor, k); });
  if (fit.last_finite != nullptr) {
    fit.last_finite->begin_at(fit.state, k);  // where it was written without them
    fit.last_finite->visit(fit.model.layout(), [&](const std::string& name, at::Tensor& tensor) {
      if (saved.has(finite_name(name))) restore(saved, finite_name(name), tensor, k);
    });
  }
  at::Tensor progression = at::zeros({1, kProgressionDoubles}, at::kDouble);
  restore(saved, "progression", progression, 0);
  std::copy_n(progression.const_data_ptr<double>(), kProgressionDoubles,
              reinterpret_cast<double*>(&member.progression));
  if (!saved.has(kGatesAt)) return;  // of an earlier version
  at::Tensor gates_at = at::zeros({1}, at::kLong);
  restore(saved, kGatesAt, gates_at, 0);
  member.gates_at = gates_at.item<std::int64_t>();
}

}  // namespace tenfold

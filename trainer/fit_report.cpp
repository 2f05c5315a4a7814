#include "trainer/fit_report.h"

#include <ATen/ATen.h>

#include <cmath>

namespace tenfold {
namespace {

constexpr int kColumns = 2;  // loss, gradient norm

}  // namespace

FitReport::FitReport(const ArrayContext& context, std::vector<FitMember>& members, const StepTables& tables,
                     const StackedOptimizer& optimizer, std::vector<ParameterGroup> groups)
    : context_(context), members_(members), tables_(tables), optimizer_(optimizer), groups_(std::move(groups)) {
  const auto options = at::TensorOptions(at::kFloat).device(context.compute.device());
  metrics_ = at::zeros({tables.steps(), this->members(), kColumns}, options);
  if (optimizer.group_grad_norms().defined())
    group_norms_ = at::zeros({tables.steps(), this->members(), 2 * kParameterGroups}, options);
}

void FitReport::store(const StepCounter& counter, const at::Tensor& loss, const at::Tensor& grad_norm) {
  context_.compute.store(metrics_, counter, at::stack({loss, grad_norm}, -1));
  if (group_norms_.defined())
    context_.compute.store(group_norms_, counter,
                           at::cat({optimizer_.group_grad_norms(), optimizer_.group_update_norms()}, -1));
}

void FitReport::report(std::int64_t first, std::int64_t steps, double wall_s, Progress& progress) {
  const at::Tensor host = metrics_.narrow(0, 0, steps).cpu();
  const float* values = host.const_data_ptr<float>();
  std::int64_t updates = 0, reporting = 0;
  double losses = 0;
  for (std::int64_t k = 0; k < members(); ++k) {
    FitMember& fit = members_[static_cast<std::size_t>(k)];
    std::vector<TrainStepRow> rows;
    for (std::int64_t t = 0; t < steps && !fit.at_rest(first + t); ++t) {
      const float* value = values + (t * members() + k) * kColumns;
      TrainStepRow row{};
      row.step = first + t + 1;
      row.epoch = (first + t) / fit.epoch_updates;
      row.loss = value[0];
      row.lr = tables_.rate(t, k);
      row.grad_norm = value[1];
      row.wall_s = wall_s / static_cast<double>(steps * members());
      fit.wall_s += row.wall_s;
      rows.push_back(row);
      look_for_failure(fit, row);
    }
    if (rows.empty()) continue;
    updates += static_cast<std::int64_t>(rows.size());
    losses += rows.back().loss;
    reporting += 1;
    context_.reporter.rows(static_cast<std::uint32_t>(k), std::span<const TrainStepRow>(rows));
    report_groups(k, first, static_cast<std::int64_t>(rows.size()));
  }
  progress.step = first + steps;
  progress.total = losses / static_cast<double>(reporting);
  progress.updates_per_s = wall_s > 0 ? static_cast<double>(updates) / wall_s : 0;
  context_.reporter.progress(progress);
}

void FitReport::look_for_failure(FitMember& fit, const TrainStepRow& row) const {
  const bool finite_loss = std::isfinite(row.loss);
  if (finite_loss && std::isfinite(row.grad_norm)) return;
  const double culprit = finite_loss ? row.grad_norm : row.loss;
  fit.failure = std::string("the training ") + (finite_loss ? "gradient" : "loss") + " became " +
                (std::isnan(culprit) ? "NaN" : "infinite") + " at update " + std::to_string(row.step);
  fit.failed_at = row.step;
}

// Of the first `count` steps of a block: norms by group, where a model has several.
void FitReport::report_groups(std::int64_t k, std::int64_t first, std::int64_t count) {
  if (!group_norms_.defined()) return;
  const at::Tensor host = group_norms_.narrow(0, 0, count).cpu();
  std::vector<GroupStepRow> rows;
  for (std::int64_t t = 0; t < count; ++t) {
    const float* norms = host.const_data_ptr<float>() + (t * members() + k) * 2 * kParameterGroups;
    for (const ParameterGroup group : groups_) {
      const auto g = static_cast<std::int32_t>(group);
      rows.push_back({first + t + 1, norms[g], norms[kParameterGroups + g], g, 0});
    }
  }
  context_.reporter.rows(static_cast<std::uint32_t>(k), std::span<const GroupStepRow>(rows));
}

}  // namespace tenfold

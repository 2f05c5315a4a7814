#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "trainer/array.h"
#include "trainer/fit_member.h"
#include "trainer/optimizer.h"

namespace tenfold {

// What a block of an array's training steps measured: kept on the device, then reported as rows.
class FitReport {
 public:
  // A value of member k was not finite at update `at`; what was after update `kept` may be kept. Whether it was.
  using Diverged = std::function<bool(FitMember& member, std::int64_t k, const std::string& what, std::int64_t at,
                                      std::int64_t kept)>;
  FitReport(const ArrayContext& context, std::vector<FitMember>& members, const StepTables& tables,
            const StackedOptimizer& optimizer, std::vector<ParameterGroup> groups, Diverged diverged);

  // Of the counter's step, as part of it. loss, grad_norm (K).
  void store(const StepCounter& counter, const at::Tensor& loss, const at::Tensor& grad_norm);
  // `steps` steps from `first` on, computed in wall_s; tells `progress`.
  void report(std::int64_t first, std::int64_t steps, double wall_s, Progress& progress);

 private:
  std::int64_t members() const { return static_cast<std::int64_t>(members_.size()); }
  bool is_put_back(FitMember& fit, std::int64_t k, const TrainStepRow& row) const;
  void report_groups(std::int64_t k, std::int64_t first, std::int64_t count);

  const ArrayContext& context_;
  std::vector<FitMember>& members_;
  const StepTables& tables_;
  const StackedOptimizer& optimizer_;
  std::vector<ParameterGroup> groups_;  // that are trained, ascending
  Diverged diverged_;
  at::Tensor metrics_;      // (T, K, columns)
  at::Tensor group_norms_;  // (T, K, 2 groups): of gradients, of changes; undefined where all is one group
};

}  // namespace tenfold

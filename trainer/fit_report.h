#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "trainer/array.h"
#include "trainer/fit_member.h"
#include "trainer/optimizer.h"

namespace tenfold {

// What a block of an array's training steps measured: kept on the device, then reported as rows. A loss or gradient
// that is not finite becomes the member's failure.
class FitReport {
 public:
  FitReport(const ArrayContext& context, std::vector<FitMember>& members, const StepTables& tables,
            const StackedOptimizer& optimizer, std::vector<ParameterGroup> groups);

  // Of the counter's step, as part of it. loss, grad_norm (K).
  void store(const StepCounter& counter, const at::Tensor& loss, const at::Tensor& grad_norm);
  // `steps` steps from `first` on, computed in wall_s; tells `progress`.
  void report(std::int64_t first, std::int64_t steps, double wall_s, Progress& progress);

 private:
  std::int64_t members() const { return static_cast<std::int64_t>(members_.size()); }
  void look_for_failure(FitMember& fit, const TrainStepRow& row) const;
  void report_groups(std::int64_t k, std::int64_t first, std::int64_t count);

  const ArrayContext& context_;
  std::vector<FitMember>& members_;
  const StepTables& tables_;
  const StackedOptimizer& optimizer_;
  std::vector<ParameterGroup> groups_;  // that are trained, ascending
  at::Tensor metrics_;                  // (T, K, columns)
  at::Tensor group_norms_;              // (T, K, 2 groups): of gradients, of changes; undefined where all is one group
};

}  // namespace tenfold

#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "experiments/experiment.h"
#include "experiments/plan.h"
#include "runner/scheduler.h"

namespace tenfold {

// The fits and trials of a plan as work items. Cost counts multiplications: updates x (parameters x batch + what an
// update costs however small it is); array keys are numbered.
std::vector<WorkItem> work_items(const Experiment& experiment, const Plan& plan);

// Seconds per unit of cost, learnt from what was measured, by stage and array key.
class CostModel {
 public:
  void observe(const WorkItem& item, double wall_s);
  // Expected seconds of one slot's time; negative while nothing of its stage was measured.
  double expected_s(const WorkItem& item) const;
  // Of so much cost of a stage; by the other stage's rate where this one's is not known yet.
  double expected_s(Stage stage, double cost) const;

 private:
  struct Rate {
    double s_per_cost = 0;
    bool known = false;
    void observe(double value);
  };
  Rate stage_[2];
  std::unordered_map<std::int64_t, Rate> key_;
};

}  // namespace tenfold

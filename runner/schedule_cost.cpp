#include "runner/schedule_cost.h"

#include <algorithm>
#include <string>

#include "runner/member_cost.h"
#include "trainer/model_layout.h"

namespace tenfold {
namespace {

struct ConfigurationCost {
  std::int32_t fit_key = 0, trial_key = 0;
  float fit_update = 1, trial_update = 1;  // cost of one update
  float fit_bytes = 0, trial_bytes = 0;    // of a member
};

class KeyNumbers {
 public:
  std::int32_t number(const std::string& key) {
    return numbers_.try_emplace(key, static_cast<std::int32_t>(numbers_.size())).first->second;
  }

 private:
  std::unordered_map<std::string, std::int32_t> numbers_;
};

}  // namespace

std::vector<WorkItem> work_items(const Experiment& experiment, const Plan& plan) {
  KeyNumbers keys;
  std::vector<WorkItem> items;
  items.reserve(plan.fits.size() + plan.trials.size());
  // A specification is resolved once per configuration and not kept: a hundred thousand of them would not be small.
  struct Updates {
    ConfigurationCost cost;
    std::int32_t ranks = 1;
    std::vector<std::int64_t> fit, trial;  // by split
  };
  std::int32_t last = -1;
  Updates current;
  const auto look_at = [&](std::int32_t configuration) -> const Updates& {
    if (configuration == last) return current;
    last = configuration;
    current = Updates{};
    const ExperimentSpec spec = experiment.resolve(static_cast<std::size_t>(configuration));
    const DatasetSummary& data =
        plan.datasets[static_cast<std::size_t>(plan.dataset_of[static_cast<std::size_t>(configuration)])];
    const ModelLayout layout = model_layout(spec.model, data.sample_shape, data.classes);
    const int ttt_batch = spec.ttt.batch_size.value_or(1);
    // An array reads one dataset and has one group.
    const std::string dataset = std::to_string(plan.dataset_of[static_cast<std::size_t>(configuration)]) + " " +
                                std::to_string(spec.resources.ranks_per_trial) + " ranks ";
    current.ranks = spec.resources.ranks_per_trial;
    current.cost.fit_key = keys.number("fit " + dataset + fit_array_key(spec, data));
    current.cost.trial_key = keys.number("trial " + dataset + trial_array_key(spec, data));
    const std::int64_t train_batch = spec.train.batch_size;
    current.cost.fit_update = static_cast<float>(update_cost(data, layout, train_batch));
    current.cost.trial_update = static_cast<float>(update_cost(data, layout, ttt_batch));
    current.cost.fit_bytes = static_cast<float>(member_bytes(spec, data, layout, train_batch, /*backward=*/true));
    current.cost.trial_bytes = static_cast<float>(trial_bytes(spec, data, layout));
    for (const SplitSummary& split : data.splits) {
      current.fit.push_back(train_updates(spec, split.epoch_n));
      // Evaluation before and after is there even where nothing adapts.
      current.trial.push_back(ttt_updates(spec, split.test_n) + 2);
    }
    return current;
  };
  for (const FitUnit& fit : plan.fits) {
    const Updates& u = look_at(fit.configuration);
    const auto updates = static_cast<float>(u.fit[static_cast<std::size_t>(fit.split)] + 1);
    items.push_back({Stage::fit, u.cost.fit_key, -1, u.cost.fit_update * updates, u.cost.fit_bytes, u.ranks});
  }
  for (const TrialUnit& trial : plan.trials) {
    const Updates& u = look_at(trial.configuration);
    const auto updates = static_cast<float>(u.trial[static_cast<std::size_t>(trial.split)]);
    items.push_back(
        {Stage::adapt, u.cost.trial_key, trial.fit, u.cost.trial_update * updates, u.cost.trial_bytes, u.ranks});
  }
  return items;
}

void CostModel::Rate::observe(double value) {
  s_per_cost = known ? 0.7 * s_per_cost + 0.3 * value : value;
  known = true;
}

void CostModel::observe(const WorkItem& item, double wall_s) {
  if (!(wall_s > 0) || !(item.cost > 0)) return;
  const double value = wall_s / item.cost;
  stage_[item.stage == Stage::fit ? 0 : 1].observe(value);
  key_[item.key].observe(value);
}

double CostModel::expected_s(const WorkItem& item) const {
  if (const auto found = key_.find(item.key); found != key_.end()) return found->second.s_per_cost * item.cost;
  const Rate& stage = stage_[item.stage == Stage::fit ? 0 : 1];
  return stage.known ? stage.s_per_cost * item.cost : -1;
}

double CostModel::expected_s(Stage stage, double cost) const {
  const std::size_t index = stage == Stage::fit ? 0 : 1;
  if (cost <= 0) return 0;
  const Rate& rate = stage_[index].known ? stage_[index] : stage_[1 - index];
  return rate.known ? rate.s_per_cost * cost : -1;
}

}  // namespace tenfold

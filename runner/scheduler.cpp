#include "runner/scheduler.h"

#include <algorithm>
#include <cmath>

namespace tenfold {
namespace {

constexpr int kCpuArray = 8;    // more members gain nothing on a core, and small arrays balance better
constexpr int kGpuArray = 512;  // bounded by memory besides
constexpr int kLostWorkers = 5;

std::size_t index_of(Stage stage) { return stage == Stage::fit ? 0 : 1; }

}  // namespace

ArraySizing cpu_sizing(int slots, int max_array) {
  return {std::max(1, slots), max_array > 0 ? max_array : kCpuArray, 4};
}

ArraySizing gpu_sizing(int slots, int max_array) {
  return {std::max(1, slots), max_array > 0 ? max_array : kGpuArray, 1};
}

Scheduler::Scheduler(std::vector<WorkItem> items, ArraySizing sizing, int retries)
    : sizing_(sizing), allowed_failures_(std::max(0, retries)) {
  items_.reserve(items.size());
  for (const WorkItem& item : items) items_.push_back(Item{item});
}

void Scheduler::make_ready(std::int32_t unit, std::int64_t resume_step) {
  const Item& item = items_[static_cast<std::size_t>(unit)];
  groups_[{item.stage, item.key, resume_step}].push({item.cost, unit});
  ++ready_count_[index_of(item.stage)];
  ready_cost_[index_of(item.stage)] += item.cost;
}

int Scheduler::array_size(const GroupKey& key, std::size_t group_units, const Item& largest,
                          const Progressed& progressed) const {
  const std::size_t stage = index_of(key.stage);
  // Trials wait for fits, so slots that compute trials now do not count when fits are shared out.
  double work = ready_cost_[stage] + std::max(0.0, in_flight_cost_[0] - progressed.fits);
  if (key.stage == Stage::adapt) work += std::max(0.0, in_flight_cost_[1] - progressed.trials);
  const double share = work / sizing_.slots / std::max(largest.cost, 1e-30f);
  const auto per_slot = (ready_count_[stage] + sizing_.slots - 1) / sizing_.slots;
  const int smallest = static_cast<int>(std::min<std::int64_t>(sizing_.efficient, per_slot));
  int size = static_cast<int>(std::min(std::ceil(share * (1 - 1e-6)), 1e6));
  size = std::max(size, smallest);
  size = std::min({size, sizing_.max_array, static_cast<int>(group_units)});
  if (array_memory_bytes_ > 0 && largest.member_bytes > 0)
    size = static_cast<int>(std::min<double>(size, array_memory_bytes_ / largest.member_bytes));
  size = std::max(size, 1);
  // 9 as 5 and 4, not as 8 and 1.
  const int units = static_cast<int>(group_units), arrays = (units + size - 1) / size;
  return (units + arrays - 1) / arrays;
}

std::optional<PlannedArray> Scheduler::next(const Progressed& progressed) {
  if (!retries_.empty()) {
    PlannedArray array = std::move(retries_.front());
    retries_.pop_front();
    take_off(array);
    return array;
  }
  // Fits before trials, for trials wait for them; then the longest first. The map is ordered by stage.
  auto best = groups_.end();
  for (auto it = groups_.begin(); it != groups_.end(); ++it) {
    if (best != groups_.end() && it->first.stage != best->first.stage) break;
    if (best == groups_.end() || it->second.top().cost > best->second.top().cost) best = it;
  }
  if (best == groups_.end()) return std::nullopt;

  auto& [key, queue] = *best;
  PlannedArray array{key.stage, key.resume_step, {}};
  const int size = array_size(key, queue.size(), items_[static_cast<std::size_t>(queue.top().unit)], progressed);
  for (int i = 0; i < size; ++i) {
    const Entry entry = queue.top();
    queue.pop();
    array.units.push_back(entry.unit);
    --ready_count_[index_of(key.stage)];
    ready_cost_[index_of(key.stage)] -= entry.cost;
  }
  if (ready_count_[index_of(key.stage)] == 0) ready_cost_[index_of(key.stage)] = 0;
  if (queue.empty()) groups_.erase(best);
  take_off(array);
  return array;
}

void Scheduler::take_off(const PlannedArray& array) {
  for (const std::int32_t unit : array.units) {
    Item& item = items_[static_cast<std::size_t>(unit)];
    item.in_flight = true;
    in_flight_cost_[index_of(item.stage)] += item.cost;
  }
}

void Scheduler::land(std::int32_t unit) {
  Item& item = items_[static_cast<std::size_t>(unit)];
  if (!item.in_flight) return;
  item.in_flight = false;
  in_flight_cost_[index_of(item.stage)] -= item.cost;
}

void Scheduler::finished(std::int32_t unit) {
  land(unit);
  items_[static_cast<std::size_t>(unit)].over = true;
}

void Scheduler::push_retry(std::vector<std::pair<std::int32_t, std::int64_t>> members) {
  for (const auto& [unit, step] : members) land(unit);
  // An array starts from one step: members that got to different checkpoints go separately.
  std::map<std::int64_t, PlannedArray> by_step;
  for (const auto& [unit, step] : members) {
    PlannedArray& array = by_step[step];
    array.stage = items_[static_cast<std::size_t>(unit)].stage;
    array.resume_step = step;
    array.units.push_back(unit);
  }
  for (auto& [step, array] : by_step) retries_.push_back(std::move(array));
}

std::optional<std::int32_t> Scheduler::crashed(std::span<const std::int32_t> units,
                                               std::span<const std::int64_t> resume_steps, bool was_alone) {
  if (units.empty()) return std::nullopt;
  if (units.size() == 1) return member_failed(units[0], resume_steps[0], was_alone);
  const std::size_t half = (units.size() + 1) / 2;
  for (const auto& [begin, end] : {std::pair{std::size_t{0}, half}, std::pair{half, units.size()}}) {
    std::vector<std::pair<std::int32_t, std::int64_t>> members;
    for (std::size_t i = begin; i < end; ++i) members.emplace_back(units[i], resume_steps[i]);
    push_retry(std::move(members));
  }
  return std::nullopt;
}

std::optional<std::int32_t> Scheduler::member_failed(std::int32_t unit, std::int64_t resume_step, bool was_alone) {
  land(unit);
  Item& item = items_[static_cast<std::size_t>(unit)];
  if (was_alone && ++item.failures > allowed_failures_) {
    item.over = true;
    return unit;
  }
  push_retry({{unit, resume_step}});
  return std::nullopt;
}

std::optional<std::int32_t> Scheduler::worker_lost(std::int32_t unit, std::int64_t resume_step) {
  land(unit);
  Item& item = items_[static_cast<std::size_t>(unit)];
  if (++item.lost > kLostWorkers) {
    item.over = true;
    return unit;
  }
  make_ready(unit, resume_step);
  return std::nullopt;
}

}  // namespace tenfold

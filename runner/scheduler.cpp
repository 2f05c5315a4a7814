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
  groups_[{item.stage, item.key, resume_step, item.ranks}].push({item.cost, unit});
  ++ready_count_[index_of(item.stage)];
  ready_cost_[index_of(item.stage)] += item.cost;
}

int Scheduler::array_size(const GroupKey& key, std::size_t group_units, const Item& largest,
                          const Progressed& progressed) const {
  const std::size_t stage = index_of(key.stage);
  // Trials wait for fits, so slots that compute trials now do not count when fits are shared out.
  double work = ready_cost_[stage] + std::max(0.0, in_flight_cost_[0] - progressed.fits);
  if (key.stage == Stage::adapt) work += std::max(0.0, in_flight_cost_[1] - progressed.trials);
  const int arrays_at_once = std::max(1, sizing_.slots / key.ranks);
  const double share = work / arrays_at_once / std::max(largest.cost, 1e-30f);
  const auto ready_each = (ready_count_[stage] + arrays_at_once - 1) / arrays_at_once;
  const int smallest = static_cast<int>(std::min<std::int64_t>(sizing_.efficient, ready_each));
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

// Fits before trials, for trials wait for them; then the longest first. The map is ordered by stage.
Scheduler::Groups::iterator Scheduler::first_group() {
  auto best = groups_.end();
  for (auto it = groups_.begin(); it != groups_.end(); ++it) {
    if (best != groups_.end() && it->first.stage != best->first.stage) break;
    if (best == groups_.end() || it->second.top().cost > best->second.top().cost) best = it;
  }
  return best;
}

std::optional<PlannedArray> Scheduler::next(const Progressed& progressed, const Room& room) {
  if (room.free <= 0) return std::nullopt;
  auto group = groups_.end();
  if (waiting_ && waiting_->group) {
    group = groups_.find(*waiting_->group);
    if (group == groups_.end()) waiting_.reset();  // it is gone otherwise
  }
  const bool retry = group == groups_.end() && !retries_.empty();
  if (!retry && group == groups_.end()) group = first_group();
  if (!retry && group == groups_.end()) return std::nullopt;
  const std::int32_t ranks = retry ? retries_.front().ranks : group->first.ranks;
  if (ranks <= room.free) {
    waiting_.reset();
    return retry ? take_retry(0) : take(group, progressed, sizing_.max_array);
  }
  if (!waiting_) waiting_ = Waiting{retry ? std::nullopt : std::optional(group->first), ++waited_};
  return pass(gap_before(ranks, room), progressed);
}

bool Scheduler::next_is_group() const {
  if (waiting_ || (!retries_.empty() && retries_.front().ranks > 1)) return true;
  if (!retries_.empty()) return false;
  const auto group = const_cast<Scheduler*>(this)->first_group();
  return group != groups_.end() && group->first.ranks > 1;
}

Scheduler::Gap Scheduler::gap_before(std::int32_t ranks, const Room& room) const {
  std::vector<double> until_free;
  int passed = 0;
  for (const Room::Busy& slot : room.busy) {
    until_free.push_back(slot.cost_left);
    if (slot.passed == waiting_->number) ++passed;
  }
  const auto lacking = static_cast<std::size_t>(ranks - room.free);
  if (room.free + passed >= ranks) return {};                 // they have delayed it already
  if (until_free.size() < lacking) return {room.free, 0, 0};  // slots that are gone or not there yet: nobody knows
  std::sort(until_free.begin(), until_free.end());
  const double cost = until_free[lacking - 1];
  const auto free_then = room.free + std::upper_bound(until_free.begin(), until_free.end(), cost) - until_free.begin();
  return {room.free, static_cast<int>(free_then) - ranks, cost};
}

std::optional<PlannedArray> Scheduler::pass(const Gap& gap, const Progressed& progressed) {
  const auto let_past = [&](PlannedArray array) {
    array.passed = waiting_->number;
    return array;
  };
  for (std::size_t i = waiting_->group ? 0 : 1; i < retries_.size(); ++i) {
    const PlannedArray& array = retries_[i];
    if (array.ranks <= gap.free && (array.ranks <= gap.spare || array_cost(array) / array.ranks <= gap.cost))
      return let_past(take_retry(i));
  }
  auto best = groups_.end();
  for (auto it = groups_.begin(); it != groups_.end(); ++it) {
    const GroupKey& key = it->first;
    if (best != groups_.end() && key.stage != best->first.stage) break;
    const float cost = it->second.top().cost;
    const bool fits = key.ranks <= gap.free && (key.ranks <= gap.spare || cost / key.ranks <= gap.cost);
    if (fits && (best == groups_.end() || cost > best->second.top().cost)) best = it;
  }
  if (best == groups_.end()) return std::nullopt;
  const std::int32_t ranks = best->first.ranks;
  const double members = gap.cost * ranks / std::max(best->second.top().cost, 1e-30f);
  const int at_most = ranks <= gap.spare ? sizing_.max_array : static_cast<int>(std::clamp(members, 1.0, 1e6));
  return let_past(take(best, progressed, at_most));
}

PlannedArray Scheduler::take_retry(std::size_t index) {
  PlannedArray array = std::move(retries_[index]);
  retries_.erase(retries_.begin() + static_cast<std::ptrdiff_t>(index));
  take_off(array);
  return array;
}

PlannedArray Scheduler::take(Groups::iterator group, const Progressed& progressed, int at_most) {
  auto& [key, queue] = *group;
  PlannedArray array{key.stage, key.resume_step, {}, key.ranks};
  const int size =
      std::min(at_most, array_size(key, queue.size(), items_[static_cast<std::size_t>(queue.top().unit)], progressed));
  for (int i = 0; i < size; ++i) {
    const Entry entry = queue.top();
    queue.pop();
    array.units.push_back(entry.unit);
    --ready_count_[index_of(key.stage)];
    ready_cost_[index_of(key.stage)] -= entry.cost;
  }
  if (ready_count_[index_of(key.stage)] == 0) ready_cost_[index_of(key.stage)] = 0;
  if (queue.empty()) groups_.erase(group);
  take_off(array);
  return array;
}

double Scheduler::array_cost(const PlannedArray& array) const {
  double cost = 0;
  for (const std::int32_t unit : array.units) cost += items_[static_cast<std::size_t>(unit)].cost;
  return cost;
}

std::vector<std::int32_t> Scheduler::give_up_too_large() {
  std::vector<std::int32_t> units;
  std::erase_if(retries_, [&](const PlannedArray& array) {
    const bool too_large = array.ranks > sizing_.slots;
    if (too_large) units.insert(units.end(), array.units.begin(), array.units.end());
    return too_large;
  });
  const bool retry_waits = waiting_ && !waiting_->group;
  if (retry_waits && !units.empty()) waiting_.reset();
  for (auto group = groups_.begin(); group != groups_.end();) {
    auto& [key, queue] = *group;
    if (key.ranks <= sizing_.slots) {
      ++group;
      continue;
    }
    for (; !queue.empty(); queue.pop()) {
      units.push_back(queue.top().unit);
      --ready_count_[index_of(key.stage)];
      ready_cost_[index_of(key.stage)] -= queue.top().cost;
    }
    group = groups_.erase(group);
  }
  for (const std::int32_t unit : units) items_[static_cast<std::size_t>(unit)].over = true;
  return units;
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
    array.ranks = items_[static_cast<std::size_t>(unit)].ranks;
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

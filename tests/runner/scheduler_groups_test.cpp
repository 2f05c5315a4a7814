// Arrays that take several slots: they get their turn, and slots are idle only for their sake.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>

#include "runner/scheduler.h"

namespace tenfold {
namespace {

using testing::ElementsAre;

WorkItem item(float cost, std::int32_t ranks, std::int32_t key = 0) {
  return WorkItem{Stage::adapt, key, -1, cost, 0, ranks};
}

TEST(SchedulerGroups, AnArrayHasMembersOfOneSize) {
  Scheduler scheduler({item(1, 1), item(1, 2), item(1, 2), item(1, 1)}, gpu_sizing(2, 0), 0);
  for (int unit = 0; unit < 4; ++unit) scheduler.make_ready(unit, -1);
  std::map<std::int32_t, std::vector<std::int32_t>> by_ranks;
  while (const auto array = scheduler.next())
    for (const std::int32_t unit : array->units) by_ranks[array->ranks].push_back(unit);
  EXPECT_THAT(by_ranks[1], ElementsAre(0, 3));
  EXPECT_THAT(by_ranks[2], ElementsAre(1, 2));
}

TEST(SchedulerGroups, ArraysOfGroupsAreSharedOutOverAsManyGroupsAsFit) {
  std::vector<WorkItem> items(8, item(1, 2));
  Scheduler scheduler(items, cpu_sizing(4, 0), 0);
  for (int unit = 0; unit < 8; ++unit) scheduler.make_ready(unit, -1);
  EXPECT_EQ(scheduler.next()->units.size(), 4u);
  EXPECT_EQ(scheduler.next()->units.size(), 4u);
}

TEST(SchedulerGroups, SlotsAreKeptForALargeOneAndShortOnesGoBeforeIt) {
  // The large one needs all four slots; two are busy for 10 more.
  Scheduler scheduler({item(100, 4), item(5, 1, 1), item(20, 1, 2), item(5, 1, 3)}, cpu_sizing(4, 1), 0);
  for (int unit = 0; unit < 4; ++unit) scheduler.make_ready(unit, -1);
  Room room{2, {{10, 0}, {10, 0}}};
  const auto first = scheduler.next({}, room);
  ASSERT_TRUE(first);
  EXPECT_THAT(first->units, ElementsAre(1)) << "what takes 20 would delay it";
  EXPECT_GT(first->passed, 0u);
  const auto second = scheduler.next({}, {1, {{10, 0}, {10, 0}, {5, first->passed}}});
  ASSERT_TRUE(second);
  EXPECT_THAT(second->units, ElementsAre(3));
  EXPECT_FALSE(scheduler.next({}, {2, {{5, 0}, {5, 0}}}));
  EXPECT_FALSE(scheduler.next({}, {3, {{1, 0}}}));
  const auto large = scheduler.next({}, {4, {}});
  EXPECT_THAT(large->units, ElementsAre(0));
  EXPECT_EQ(large->passed, 0u);
  EXPECT_THAT(scheduler.next({}, {4, {}})->units, ElementsAre(2));
}

TEST(SchedulerGroups, SlotsThatALargeOneWillNotNeedStayInUse) {
  Scheduler scheduler({item(1000, 4), item(900, 1, 1)}, cpu_sizing(8, 1), 0);
  scheduler.make_ready(0, -1);
  scheduler.make_ready(1, -1);
  // Five slots end together: one more than it lacks is spare.
  const auto array = scheduler.next({}, {3, {{10, 0}, {10, 0}, {10, 0}, {10, 0}, {10, 0}}});
  ASSERT_TRUE(array);
  EXPECT_THAT(array->units, ElementsAre(1));
}

TEST(SchedulerGroups, OnceOnlyThoseLetPastAreInTheWayNoMoreAreLetPast) {
  std::vector<WorkItem> items(10, item(1, 1));
  items.push_back(item(100, 2));
  Scheduler scheduler(items, cpu_sizing(2, 1), 0);
  for (int unit = 0; unit < 11; ++unit) scheduler.make_ready(unit, -1);
  const auto past = scheduler.next({}, {1, {{5, 0}}});
  ASSERT_TRUE(past);
  // The other slot is free, and this one, against its estimate, is not.
  EXPECT_FALSE(scheduler.next({}, {1, {{3, past->passed}}}));
  EXPECT_THAT(scheduler.next({}, {2, {}})->units, ElementsAre(10));
}

TEST(SchedulerGroups, ARetriedGroupWaitsForItsSlotsToo) {
  Scheduler scheduler({item(10, 2), item(50, 1, 1), item(1, 1, 2)}, cpu_sizing(2, 1), 3);
  for (int unit = 0; unit < 3; ++unit) scheduler.make_ready(unit, -1);
  ASSERT_THAT(scheduler.next({}, {2, {}})->units, ElementsAre(1));
  const auto pair = scheduler.next({}, {1, {{50, 0}}});
  EXPECT_THAT(pair->units, ElementsAre(2)) << "one slot is free, the pair waits";
  ASSERT_THAT(scheduler.next({}, {2, {}})->units, ElementsAre(0));
  const std::vector<std::int32_t> unit{0};
  const std::vector<std::int64_t> step{7};
  EXPECT_EQ(scheduler.crashed(unit, step, true), std::nullopt);
  EXPECT_FALSE(scheduler.next({}, {1, {{3, 0}}}));
  const auto again = scheduler.next({}, {2, {}});
  EXPECT_THAT(again->units, ElementsAre(0));
  EXPECT_EQ(again->ranks, 2);
  EXPECT_EQ(again->resume_step, 7);
}

TEST(SchedulerGroups, WhatNeedsMoreSlotsThanAreLeftIsGivenUpAndTheRestGoesOn) {
  Scheduler scheduler({item(100, 4), item(10, 2), item(1, 1), item(100, 4)}, cpu_sizing(4, 1), 3);
  for (int unit = 0; unit < 4; ++unit) scheduler.make_ready(unit, -1);
  ASSERT_THAT(scheduler.next({}, {4, {}})->units, ElementsAre(0));
  scheduler.set_slots(3);
  const std::vector<std::int32_t> unit{0};
  const std::vector<std::int64_t> step{-1};
  scheduler.crashed(unit, step, true);
  EXPECT_THAT(scheduler.give_up_too_large(), testing::UnorderedElementsAre(0, 3));
  EXPECT_TRUE(scheduler.over(0));
  EXPECT_TRUE(scheduler.over(3));
  EXPECT_THAT(scheduler.next({}, {3, {}})->units, ElementsAre(1));
  EXPECT_THAT(scheduler.next({}, {1, {}})->units, ElementsAre(2));
  EXPECT_FALSE(scheduler.has_ready());
  EXPECT_THAT(scheduler.give_up_too_large(), testing::IsEmpty());
}

// Slots, arrays and a clock, as the coordinator has them. `wrong`: how far durations are from what costs say.
class Simulation {
 public:
  Simulation(std::uint32_t seed, double wrong) : random_(seed), wrong_(wrong) {
    slots_ = std::uniform_int_distribution(1, 16)(random_);
    const int units = std::uniform_int_distribution(20, 120)(random_);
    std::vector<WorkItem> items;
    for (int i = 0; i < units; ++i) {
      const std::int32_t sizes[] = {1, 1, 1, 2, 4, slots_ / 2, slots_};
      const std::int32_t ranks = std::clamp(sizes[random_() % 7], 1, slots_);
      const float cost = std::exp(std::uniform_real_distribution<float>(0, 5)(random_));
      items.push_back(item(cost * static_cast<float>(ranks), ranks, static_cast<std::int32_t>(random_() % 3)));
    }
    scheduler_.emplace(items, cpu_sizing(slots_, 4), 0);
    for (int i = 0; i < units; ++i) {
      scheduler_->make_ready(i, -1);
      ready_.insert(i);
    }
  }

  void run() {
    while (!ready_.empty() || !running_.empty()) {
      while (start_one()) {
      }
      look_at_idle_slots();
      ASSERT_FALSE(running_.empty()) << "nothing runs and nothing starts";
      end_one();
    }
  }

 private:
  struct Array {
    PlannedArray plan;
    double begin, duration, cost;  // cost: on each of its slots
    double left(double now) const { return cost * (1 - (now - begin) / duration); }
  };
  int free() const {
    int busy = 0;
    for (const Array& array : running_) busy += array.plan.ranks;
    return slots_ - busy;
  }
  Room room() const {
    Room room{free(), {}};
    for (const Array& array : running_)
      for (int i = 0; i < array.plan.ranks; ++i) room.busy.push_back({array.left(now_), array.plan.passed});
    return room;
  }

  bool start_one() {
    const int free_slots = free();
    const auto planned = scheduler_->next({}, room());
    if (!planned) return false;
    EXPECT_LE(planned->ranks, free_slots);
    Array array{*planned, now_, 0, 0};
    for (const std::int32_t unit : planned->units) {
      EXPECT_EQ(ready_.erase(unit), 1u);
      EXPECT_EQ(scheduler_->item(unit).ranks, planned->ranks);
      array.cost += scheduler_->item(unit).cost / static_cast<float>(planned->ranks);
    }
    array.duration = array.cost * std::exp(std::uniform_real_distribution(-wrong_, wrong_)(random_));
    if (planned->passed == 0 && waiting_) {
      // Its turn: when the arrays that ran before it waited are over, and those let past have not delayed it, or, where
      // costs were wrong, only by what was let past last.
      EXPECT_LE(now_, promised_ + (wrong_ == 0 ? 0 : longest_past_) + 1e-6);
      waiting_ = false;
    }
    if (planned->passed > 0 && !waiting_) begin_waiting();
    if (planned->passed > 0) longest_past_ = std::max(longest_past_, array.duration);
    running_.push_back(array);
    return true;
  }

  // The scheduler let something past, or gave nothing: what waits needs more than is free.
  void begin_waiting() {
    waiting_ = true;
    longest_past_ = 0;
    promised_ = now_;
    for (const Array& array : running_) promised_ = std::max(promised_, array.begin + array.duration);
  }

  void look_at_idle_slots() {
    if (free() == 0 || ready_.empty()) return;
    // The largest need of all that is ready, or nothing may be idle.
    const bool one_is_too_large = std::any_of(ready_.begin(), ready_.end(),
                                              [&](std::int32_t unit) { return scheduler_->item(unit).ranks > free(); });
    EXPECT_TRUE(one_is_too_large) << free() << " slots are idle for nothing";
    if (!waiting_) begin_waiting();
  }

  void end_one() {
    auto first = std::min_element(running_.begin(), running_.end(), [](const Array& a, const Array& b) {
      return a.begin + a.duration < b.begin + b.duration;
    });
    now_ = first->begin + first->duration;
    for (const std::int32_t unit : first->plan.units) scheduler_->finished(unit);
    running_.erase(first);
  }

  std::mt19937 random_;
  double wrong_, now_ = 0;
  int slots_ = 1;
  std::optional<Scheduler> scheduler_;
  std::set<std::int32_t> ready_;
  std::vector<Array> running_;
  bool waiting_ = false;
  double promised_ = 0, longest_past_ = 0;
};

TEST(SchedulerGroups, EveryGroupGetsItsTurnWhateverTheCostsAreWorth) {
  for (const double wrong : {0.0, 0.5, 2.0})
    for (std::uint32_t seed = 0; seed < 300; ++seed) {
      Simulation(seed, wrong).run();
      if (testing::Test::HasFailure()) FAIL() << "seed " << seed << ", costs wrong by e^" << wrong;
    }
}

}  // namespace
}  // namespace tenfold

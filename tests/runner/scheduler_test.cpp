#include "runner/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "runner/schedule_cost.h"

namespace tenfold {
namespace {

using testing::ElementsAre;

std::vector<WorkItem> trials(int count, float cost = 1, std::int32_t key = 0) {
  return std::vector<WorkItem>(static_cast<std::size_t>(count), WorkItem{Stage::adapt, key, -1, cost, 0});
}

void make_all_ready(Scheduler& scheduler, int count) {
  for (int unit = 0; unit < count; ++unit) scheduler.make_ready(unit, -1);
}

std::vector<std::size_t> sizes(Scheduler& scheduler) {
  std::vector<std::size_t> result;
  while (const auto array = scheduler.next()) result.push_back(array->units.size());
  return result;
}

TEST(Scheduler, HandsOutEveryUnitOnce) {
  Scheduler scheduler(trials(100), cpu_sizing(3, 0), 2);
  make_all_ready(scheduler, 100);
  std::set<std::int32_t> seen;
  while (const auto array = scheduler.next())
    for (const std::int32_t unit : array->units) EXPECT_TRUE(seen.insert(unit).second);
  EXPECT_EQ(seen.size(), 100u);
  EXPECT_FALSE(scheduler.has_ready());
}

TEST(Scheduler, ArraysOnCoresAreSmallAndSlotsEndTogether) {
  Scheduler scheduler(trials(60), cpu_sizing(2, 0), 2);
  make_all_ready(scheduler, 60);
  const auto made = sizes(scheduler);
  EXPECT_THAT(made, ElementsAre(8, 8, 8, 8, 7, 7, 7, 7));
}

TEST(Scheduler, WhatIsUnderWayElsewhereLeavesMoreForThisSlot) {
  Scheduler scheduler(trials(15), cpu_sizing(2, 0), 2);
  make_all_ready(scheduler, 15);
  const auto first = scheduler.next();
  EXPECT_EQ(first->units.size(), 8u);
  EXPECT_EQ(scheduler.next()->units.size(), 7u) << "the other slot has 8 before it";

  Scheduler late(trials(16), cpu_sizing(2, 0), 2);
  make_all_ready(late, 16);
  late.next();
  EXPECT_EQ(late.next({0, 8})->units.size(), 4u) << "the other slot is through with its 8 and will help";
}

TEST(Scheduler, WhatIsOverOrReturnedIsNotUnderWay) {
  Scheduler scheduler(trials(16), cpu_sizing(2, 0), 2);
  make_all_ready(scheduler, 16);
  const auto first = scheduler.next();
  for (const std::int32_t unit : first->units) {
    if (unit % 2 == 0)
      scheduler.finished(unit);
    else
      scheduler.returned(unit);
  }
  EXPECT_EQ(scheduler.next()->units.size(), 4u);
}

TEST(Scheduler, NoSlotIdlesWhileAnotherHasSeveral) {
  Scheduler scheduler(trials(5), cpu_sizing(2, 0), 2);
  make_all_ready(scheduler, 5);
  EXPECT_THAT(sizes(scheduler), ElementsAre(3, 2));
  Scheduler many_slots(trials(4), cpu_sizing(8, 0), 2);
  make_all_ready(many_slots, 4);
  EXPECT_THAT(sizes(many_slots), ElementsAre(1, 1, 1, 1));
}

TEST(Scheduler, AGpuTakesAllAtOnceUpToItsMemory) {
  Scheduler scheduler(trials(60), gpu_sizing(1, 0), 2);
  make_all_ready(scheduler, 60);
  EXPECT_THAT(sizes(scheduler), ElementsAre(60));

  auto items = trials(60);
  for (WorkItem& item : items) item.member_bytes = 1000;
  Scheduler bounded(items, gpu_sizing(1, 0), 2);
  bounded.set_array_memory(25'500);
  make_all_ready(bounded, 60);
  EXPECT_THAT(sizes(bounded), ElementsAre(20, 20, 20));

  Scheduler four(trials(60), gpu_sizing(4, 0), 2);
  make_all_ready(four, 60);
  EXPECT_EQ(four.next()->units.size(), 15u);
}

TEST(Scheduler, TheFilesMaxArrayHolds) {
  for (const ArraySizing& sizing : {cpu_sizing(1, 3), gpu_sizing(1, 3)}) {
    Scheduler scheduler(trials(10), sizing, 2);
    make_all_ready(scheduler, 10);
    for (const std::size_t size : sizes(scheduler)) EXPECT_LE(size, 3u);
  }
}

TEST(Scheduler, LongestFirstAndEqualOnesInTheOrderOfThePlan) {
  auto items = trials(6);
  items[3].cost = 5;
  items[5].cost = 9;
  Scheduler scheduler(items, cpu_sizing(1, 2), 2);
  make_all_ready(scheduler, 6);
  EXPECT_THAT(scheduler.next()->units, ElementsAre(5, 3));
  EXPECT_THAT(scheduler.next()->units, ElementsAre(0, 1));
  EXPECT_THAT(scheduler.next()->units, ElementsAre(2, 4));
}

TEST(Scheduler, FitsBeforeTrialsHoweverShort) {
  std::vector<WorkItem> items = trials(3, 100);
  items[2].stage = Stage::fit;
  items[2].cost = 1;
  Scheduler scheduler(items, cpu_sizing(1, 0), 2);
  make_all_ready(scheduler, 3);
  EXPECT_THAT(scheduler.next()->units, ElementsAre(2));
}

TEST(Scheduler, AnArrayHasOneKeyAndOneStep) {
  std::vector<WorkItem> items = trials(4, 1, 0);
  const auto others = trials(4, 1, 1);
  items.insert(items.end(), others.begin(), others.end());
  Scheduler scheduler(items, gpu_sizing(1, 0), 2);
  for (int unit = 0; unit < 8; ++unit) scheduler.make_ready(unit, unit % 2 == 0 ? -1 : 10);
  int arrays = 0;
  while (const auto array = scheduler.next()) {
    ++arrays;
    for (const std::int32_t unit : array->units) {
      EXPECT_EQ(scheduler.item(unit).key, scheduler.item(array->units[0]).key);
      EXPECT_EQ(unit % 2 == 0 ? -1 : 10, array->resume_step);
    }
  }
  EXPECT_EQ(arrays, 4);
}

TEST(Scheduler, ACrashedArrayIsHalvedAndCountsAgainstNobody) {
  Scheduler scheduler(trials(8), cpu_sizing(1, 8), 0);
  make_all_ready(scheduler, 8);
  std::vector<std::int32_t> units = scheduler.next()->units;
  ASSERT_EQ(units.size(), 8u);
  for (int i = 0; i < 4; ++i) scheduler.finished(units[static_cast<std::size_t>(i)]);
  units.erase(units.begin(), units.begin() + 4);
  const std::vector<std::int64_t> steps(units.size(), 20);
  EXPECT_EQ(scheduler.crashed(units, steps, false), std::nullopt);
  for (const int begin : {0, 2}) {
    const auto half = scheduler.next();  // before anything new
    EXPECT_THAT(half->units,
                ElementsAre(units[static_cast<std::size_t>(begin)], units[static_cast<std::size_t>(begin) + 1]));
    EXPECT_EQ(half->resume_step, 20);
  }
  EXPECT_EQ(scheduler.failures(units[0]), 0);
}

TEST(Scheduler, MembersThatGotToDifferentStepsAreRetriedSeparately) {
  Scheduler scheduler(trials(2), gpu_sizing(1, 0), 0);
  make_all_ready(scheduler, 2);
  const auto units = scheduler.next()->units;
  const std::vector<std::int64_t> steps{5, 10};
  EXPECT_EQ(scheduler.crashed(units, steps, false), std::nullopt);
  EXPECT_EQ(scheduler.next()->resume_step, 5);
  EXPECT_EQ(scheduler.next()->resume_step, 10);
}

TEST(Scheduler, AUnitAloneIsRetriedAsOftenAsAllowed) {
  Scheduler scheduler(trials(1), cpu_sizing(1, 0), 2);
  scheduler.make_ready(0, -1);
  const std::vector<std::int32_t> unit{0};
  const std::vector<std::int64_t> step{-1};
  for (int attempt = 0; attempt < 2; ++attempt) {
    ASSERT_TRUE(scheduler.next());
    EXPECT_EQ(scheduler.crashed(unit, step, true), std::nullopt);
  }
  ASSERT_TRUE(scheduler.next());
  EXPECT_EQ(scheduler.crashed(unit, step, true), 0);
  EXPECT_TRUE(scheduler.over(0));
  EXPECT_FALSE(scheduler.has_ready());
}

TEST(Scheduler, ManyAttemptsAreCountedToTheirEnd) {
  Scheduler scheduler(trials(1), cpu_sizing(1, 0), 1000);
  scheduler.make_ready(0, -1);
  for (int attempt = 0; attempt < 1000; ++attempt) {
    ASSERT_TRUE(scheduler.next());
    ASSERT_EQ(scheduler.member_failed(0, -1, true), std::nullopt);
  }
  ASSERT_TRUE(scheduler.next());
  EXPECT_EQ(scheduler.member_failed(0, -1, true), 0);
}

TEST(Scheduler, TheLastOneLeftOfALargerArrayWasNotAlone) {
  Scheduler scheduler(trials(1), cpu_sizing(1, 0), 0);
  scheduler.make_ready(0, -1);
  scheduler.next();
  const std::vector<std::int32_t> unit{0};
  const std::vector<std::int64_t> step{-1};
  EXPECT_EQ(scheduler.crashed(unit, step, false), std::nullopt);
  EXPECT_TRUE(scheduler.next());
  EXPECT_EQ(scheduler.crashed(unit, step, true), 0);
}

TEST(Scheduler, AUnitThatKeepsTakingItsWorkerWithItIsGivenUp) {
  Scheduler scheduler(trials(1), cpu_sizing(1, 0), 2);
  scheduler.make_ready(0, -1);
  int times = 0;
  while (scheduler.next())
    if (scheduler.worker_lost(0, -1))
      break;
    else
      ++times;
  EXPECT_EQ(times, 5);
  EXPECT_TRUE(scheduler.over(0));
}

TEST(CostModel, LearnsSecondsPerCostByKeyAndFallsBackToTheStage) {
  CostModel model;
  const WorkItem a{Stage::adapt, 1, -1, 10, 0}, b{Stage::adapt, 2, -1, 20, 0}, fit{Stage::fit, 3, -1, 10, 0};
  EXPECT_LT(model.expected_s(a), 0);
  model.observe(a, 5);
  EXPECT_DOUBLE_EQ(model.expected_s(a), 5);
  EXPECT_DOUBLE_EQ(model.expected_s(b), 10);
  EXPECT_LT(model.expected_s(fit), 0);
  EXPECT_DOUBLE_EQ(model.expected_s(Stage::fit, 4), 2) << "the other stage's rate, until there is one";
  EXPECT_DOUBLE_EQ(model.expected_s(Stage::fit, 0), 0);
  model.observe(b, 0);  // no measurement
  EXPECT_DOUBLE_EQ(model.expected_s(b), 10);
}

}  // namespace
}  // namespace tenfold

#include "datasets/length_buckets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "datasets/philox.h"
#include "tests/datasets/test_files.h"

namespace tenfold {
namespace {

using test::error_of;
using testing::ElementsAre;

std::vector<std::int64_t> identity(std::size_t n) {
  std::vector<std::int64_t> order(n);
  std::iota(order.begin(), order.end(), std::int64_t{0});
  return order;
}

// One random case: lengths, lists that leave out part after part as folds do, a batch size, buckets.
struct Case {
  std::vector<std::int64_t> lengths;
  std::vector<std::vector<std::int64_t>> lists;
  std::int64_t batch_size = 1;
  int buckets = 1;
};

Case random_case(int number) {
  const RandomStream stream(7, Purpose::query, 0, 0, static_cast<std::uint64_t>(number));
  Case made;
  const auto n = static_cast<std::int64_t>(2 + random_below(stream, 0, 300));
  const auto folds = static_cast<std::int64_t>(2 + random_below(stream, 1, 6));
  made.batch_size = static_cast<std::int64_t>(1 + random_below(stream, 2, 40));
  made.buckets = static_cast<int>(1 + random_below(stream, 3, 12));
  const std::uint64_t spread = number % 3 == 0 ? 1 : number % 3 == 1 ? 5 : 200;
  for (std::int64_t i = 0; i < n; ++i)
    made.lengths.push_back(
        static_cast<std::int64_t>(1 + random_below(stream, 10 + static_cast<std::uint64_t>(i), spread)));
  made.lists.resize(static_cast<std::size_t>(folds));
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t fold = 0; fold < folds; ++fold)
      if (i * i % folds != fold) made.lists[static_cast<std::size_t>(fold)].push_back(i);
  return made;
}

TEST(LengthBuckets, BoundsAreAscendingFewRoundedAndHoldTheLongest) {
  const std::vector<std::int64_t> lengths = {3, 19, 20, 50, 77, 80, 81, 200, 201};
  EXPECT_THAT(length_bounds(lengths, 3), ElementsAre(24, 80, 201));
  EXPECT_THAT(length_bounds(lengths, 1), ElementsAre(201));
  EXPECT_THAT(length_bounds(std::vector<std::int64_t>{5, 5, 5}, 8), ElementsAre(5));
  for (int number = 0; number < 60; ++number) {
    const Case c = random_case(number);
    const auto bounds = length_bounds(c.lengths, c.buckets);
    EXPECT_LE(bounds.size(), static_cast<std::size_t>(c.buckets));
    EXPECT_EQ(std::adjacent_find(bounds.begin(), bounds.end(), std::greater_equal<>()), bounds.end());
    EXPECT_EQ(bounds.back(), *std::max_element(c.lengths.begin(), c.lengths.end()));
    for (std::size_t b = 0; b + 1 < bounds.size(); ++b) EXPECT_EQ(bounds[b] % 8, 0);
    for (const std::int64_t length : c.lengths) {
      const std::size_t bucket = bucket_of(bounds, length);
      EXPECT_GE(bounds[bucket], length);
      if (bucket > 0) {
        EXPECT_LT(bounds[bucket - 1], length);
      }
    }
  }
}

TEST(LengthBuckets, EverySampleOnceInBatchesThatHoldIt) {
  for (int number = 0; number < 150; ++number) {
    const Case c = random_case(number);
    const auto bounds = length_bounds(c.lengths, c.buckets);
    const BatchPlan plan = plan_batches(c.lengths, c.lists, c.batch_size, bounds, c.buckets);
    std::size_t longest = 0;
    for (const auto& list : c.lists) longest = std::max(longest, list.size());
    ASSERT_EQ(plan.updates(), (static_cast<std::int64_t>(longest) + c.batch_size - 1) / c.batch_size);
    ASSERT_EQ(plan.region.size(), plan.padded_length.size());
    EXPECT_TRUE(std::is_sorted(plan.padded_length.begin(), plan.padded_length.end()));
    EXPECT_TRUE(std::is_sorted(plan.region.begin(), plan.region.end()));
    EXPECT_LT(plan.region.back(), c.buckets);
    for (const auto& list : c.lists) {
      const auto order = random_permutation(RandomStream(1, Purpose::query, 0, 0, static_cast<std::uint64_t>(number)),
                                            static_cast<std::int64_t>(list.size()));
      const auto batches = deal_batches(plan, c.lengths, list, order);
      ASSERT_EQ(static_cast<std::int64_t>(batches.size()), plan.updates());
      std::vector<std::int64_t> dealt;
      for (std::size_t j = 0; j < batches.size(); ++j) {
        EXPECT_LE(static_cast<std::int64_t>(batches[j].size()), c.batch_size);
        for (const std::int64_t i : batches[j])
          EXPECT_LE(c.lengths[static_cast<std::size_t>(i)], plan.padded_length[j]);
        dealt.insert(dealt.end(), batches[j].begin(), batches[j].end());
      }
      std::sort(dealt.begin(), dealt.end());
      EXPECT_EQ(dealt, list);

      std::vector<std::int64_t> reversed(list.rbegin(), list.rend());
      EXPECT_EQ(deal_batches(plan, c.lengths, reversed, order), batches) << "the list's own order counts";
    }
    auto turned = c.lists;
    std::reverse(turned.begin(), turned.end());
    for (auto& list : turned) std::reverse(list.begin(), list.end());
    const BatchPlan again = plan_batches(c.lengths, turned, c.batch_size, bounds, c.buckets);
    EXPECT_EQ(again.padded_length, plan.padded_length);
    EXPECT_EQ(again.region, plan.region);
  }
}

// An order moves samples between the batches of a region, never between regions.
TEST(LengthBuckets, OrdersShuffleWithinARegion) {
  std::vector<std::int64_t> lengths(96);
  for (std::size_t i = 0; i < lengths.size(); ++i) lengths[i] = static_cast<std::int64_t>(i % 48 + 1);
  const std::vector<std::vector<std::int64_t>> lists = {identity(96)};
  const BatchPlan plan = plan_batches(lengths, lists, 8, length_bounds(lengths, 4), 4);
  EXPECT_THAT(plan.padded_length, ElementsAre(16, 16, 16, 24, 24, 24, 40, 40, 40, 48, 48, 48));
  EXPECT_THAT(plan.region, ElementsAre(0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3));
  const auto sorted = deal_batches(plan, lengths, lists[0], identity(96));
  EXPECT_THAT(sorted[0], ElementsAre(0, 48, 1, 49, 2, 50, 3, 51));
  const auto shuffled =
      deal_batches(plan, lengths, lists[0], random_permutation(RandomStream(0, Purpose::query, 0, 0, 3), 96));
  EXPECT_NE(shuffled, sorted);
  for (std::size_t r = 0; r < 4; ++r) {
    std::vector<std::int64_t> before, after;
    for (std::size_t j = 3 * r; j < 3 * r + 3; ++j) {
      before.insert(before.end(), sorted[j].begin(), sorted[j].end());
      after.insert(after.end(), shuffled[j].begin(), shuffled[j].end());
      EXPECT_EQ(shuffled[j].size(), 8u);
    }
    EXPECT_THAT(after, testing::UnorderedElementsAreArray(before));
  }
}

TEST(LengthBuckets, RefusesWhatIsNoOrder) {
  const std::vector<std::int64_t> lengths = {4, 5, 6};
  const std::vector<std::vector<std::int64_t>> lists = {{0, 1, 2}};
  const auto bounds = length_bounds(lengths, 2);
  const BatchPlan plan = plan_batches(lengths, lists, 2, bounds, 2);
  for (const std::vector<std::int64_t>& order : {std::vector<std::int64_t>{0, 1}, {0, 1, 1}, {0, 1, 3}, {-1, 0, 1}})
    error_of(ErrorKind::internal, [&] { deal_batches(plan, lengths, lists[0], order); });
  error_of(ErrorKind::internal, [&] { bucket_of(bounds, 7); });
  error_of(ErrorKind::internal, [&] { plan_batches(lengths, lists, 0, bounds, 2); });
}

}  // namespace
}  // namespace tenfold

#include "datasets/philox.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <set>
#include <tuple>

namespace tenfold {
namespace {

// The known-answer vectors published with Random123 for philox4x32-10.
TEST(Philox, GivesThePublishedAnswers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (PhiloxBlock{0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8}));
  constexpr std::uint32_t ones = 0xFFFFFFFF;
  EXPECT_EQ(philox({ones, ones, ones, ones}, {ones, ones}),
            (PhiloxBlock{0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD}));
  EXPECT_EQ(philox({0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344}, {0xA4093822, 0x299F31D0}),
            (PhiloxBlock{0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1}));
}

TEST(RandomStream, EveryPartOfItsNameMakesAnotherStream) {
  std::set<std::tuple<std::uint32_t, std::uint32_t>> seen;
  int streams = 0;
  for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 32})
    for (const Purpose purpose : {Purpose::folds, Purpose::shift})
      for (const int repeat : {0, 1})
        for (const int fold : {0, 1, 2})
          for (const std::uint64_t site : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 40}) {
            const RandomStream stream(seed, purpose, repeat, fold, site);
            seen.insert({stream.word(0), stream.word(1)});
            ++streams;
          }
  EXPECT_EQ(static_cast<int>(seen.size()), streams);
}

TEST(RandomStream, FillsAreTheWordsOneByOneAtAnyLength) {
  const RandomStream stream(7, Purpose::train_dropout, 1, 2, 0x123456789A);
  for (const std::size_t n : {0, 1, 3, 4, 63, 64, 65, 127, 128, 129, 1000}) {
    std::vector<std::uint32_t> words(n);
    std::vector<float> uniform(n);
    fill_words(stream, words);
    fill_uniform(stream, uniform);
    for (std::size_t i = 0; i < n; ++i) {
      ASSERT_EQ(words[i], stream.word(i)) << n << ' ' << i;
      ASSERT_EQ(uniform[i], to_unit_float(stream.word(i)));
      ASSERT_GE(uniform[i], 0.0f);
      ASSERT_LT(uniform[i], 1.0f);
    }
  }
}

TEST(RandomStream, NormalNumbersAreBoxMullerOfThePairs) {
  const RandomStream stream(3, Purpose::initial_values, 0, 0, 9);
  std::vector<float> normal(100'001);
  fill_normal(stream, normal);
  double worst = 0;
  for (std::size_t i = 0; i < normal.size(); ++i) {
    const double u = (stream.word(i & ~std::size_t{1}) >> 8) * 0x1p-24 + 0x1p-24;
    const double angle = 2 * std::numbers::pi * to_unit_float(stream.word(i | 1));
    const double expected = std::sqrt(-2 * std::log(u)) * (i % 2 == 0 ? std::cos(angle) : std::sin(angle));
    worst = std::max(worst, std::abs(normal[i] - expected));
  }
  EXPECT_LT(worst, 2e-6);
}

TEST(RandomStream, NormalNumbersAreNormal) {
  std::vector<float> normal(1 << 18);
  fill_normal(RandomStream(0, Purpose::query, 0, 0, 0), normal);
  std::sort(normal.begin(), normal.end());
  // Kolmogorov-Smirnov: sqrt(n) D exceeds 1.95 once in a thousand; the stream is fixed, so this is no lottery.
  double distance = 0;
  for (std::size_t i = 0; i < normal.size(); ++i) {
    const double expected = 0.5 * std::erfc(-normal[i] / std::numbers::sqrt2);
    distance =
        std::max(distance, std::abs(expected - (static_cast<double>(i) + 0.5) / static_cast<double>(normal.size())));
  }
  EXPECT_LT(distance * std::sqrt(static_cast<double>(normal.size())), 1.95);
}

TEST(RandomBelow, IsUniform) {
  const RandomStream stream(1, Purpose::query, 0, 0, 0);
  std::vector<int> counts(7);
  for (std::uint64_t i = 0; i < 70'000; ++i) ++counts.at(random_below(stream, i, 7));
  for (const int count : counts) EXPECT_NEAR(count, 10'000, 4 * std::sqrt(10'000));
}

TEST(RandomPermutation, HoldsEveryNumberOnceAndDependsOnTheStream) {
  const RandomStream stream(1, Purpose::train_permutation, 0, 0, 0);
  const auto order = random_permutation(stream, 1000);
  EXPECT_EQ(order, random_permutation(stream, 1000));
  EXPECT_NE(order, random_permutation({1, Purpose::train_permutation, 0, 0, 1}, 1000));
  EXPECT_EQ(std::set<std::int64_t>(order.begin(), order.end()).size(), 1000u);
  EXPECT_EQ(*std::min_element(order.begin(), order.end()), 0);
  EXPECT_EQ(*std::max_element(order.begin(), order.end()), 999);
  EXPECT_TRUE(random_permutation(stream, 0).empty());
}

TEST(RandomPermutation, EveryOrderIsAsLikely) {
  std::vector<int> counts(6);
  for (std::uint64_t site = 0; site < 6000; ++site) {
    const auto order = random_permutation({0, Purpose::query, 0, 0, site}, 3);
    ++counts.at(static_cast<std::size_t>(order[0] * 2 + (order[1] > order[2] ? 1 : 0)));
  }
  for (const int count : counts) EXPECT_NEAR(count, 1000, 4 * std::sqrt(1000));
}

// Stored results depend on these numbers: a change is a change of every result.
TEST(RandomStream, NumbersAreThoseOfEarlierVersions) {
  EXPECT_EQ(site_of(""), 0xCBF29CE484222325u);
  EXPECT_EQ(site_of("a"), 0xAF63DC4C8601EC8Cu);
  const RandomStream stream(1234, Purpose::ttt_dropout, 1, 4, site_of("hidden.0"));
  const PhiloxBlock mixed = philox({7, 1, 4, 0}, {1234, 0});
  EXPECT_EQ(stream.key, (PhiloxKey{mixed[0], mixed[1]}));
  EXPECT_EQ(stream.site_low, static_cast<std::uint32_t>(site_of("hidden.0")));
  EXPECT_EQ(stream.site_high, static_cast<std::uint32_t>(site_of("hidden.0") >> 32));
}

}  // namespace
}  // namespace tenfold

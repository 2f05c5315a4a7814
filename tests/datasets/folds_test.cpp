#include "datasets/folds.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "datasets/philox.h"
#include "tests/datasets/test_files.h"

namespace tenfold {
namespace {

using test::error_of;
using testing::HasSubstr;

Dataset dataset_of(std::vector<std::int64_t> labels, std::vector<std::int64_t> groups = {},
                   std::vector<std::int64_t> given_folds = {}) {
  Dataset::Parts parts;
  parts.sample_shape = {1};
  parts.samples.assign(labels.size(), 0.0f);
  const std::int64_t classes = *std::max_element(labels.begin(), labels.end()) + 1;
  for (std::int64_t c = 0; c < classes; ++c) parts.class_names.push_back(std::string("c") + std::to_string(c));
  parts.labels = std::move(labels);
  parts.groups = std::move(groups);
  parts.given_folds = std::move(given_folds);
  return Dataset(std::move(parts));
}

FoldSpec folds(const std::string& kind, int k, std::uint64_t seed = 0, double validation = 0, int repeats = 1) {
  FoldSpec spec;
  spec.kind = kind;
  spec.k = k;
  spec.seed = seed;
  spec.validation = validation;
  spec.repeats = repeats;
  return spec;
}

// Random data sets: sizes, class balances, group sizes and numbers of folds all vary.
struct Case {
  Dataset data;
  int k;
  std::uint64_t seed;
};

Case random_case(std::uint64_t seed) {
  const RandomStream stream(seed, Purpose::query, 0, 0, 77);
  std::uint64_t at = 0;
  const auto below = [&](std::uint64_t bound) { return static_cast<std::int64_t>(random_below(stream, at++, bound)); };
  const int k = static_cast<int>(2 + below(6));
  const std::int64_t classes = 3 + below(4);
  const std::int64_t group_count = 2 * k + 4 + below(30);
  std::vector<std::int64_t> labels, groups;
  for (std::int64_t c = 0; c < classes; ++c) {
    // The first two are large enough that any two classes leave something to validate on.
    const std::int64_t n = c < 2 ? 30 + below(90) : k + (below(2) == 0 ? below(8) : below(120));
    labels.insert(labels.end(), static_cast<std::size_t>(n), c);
  }
  while (static_cast<std::int64_t>(labels.size()) < group_count) labels.push_back(0);
  const auto order = random_permutation({seed, Purpose::query, 0, 0, 78}, static_cast<std::int64_t>(labels.size()));
  std::vector<std::int64_t> shuffled;
  for (const std::int64_t i : order) shuffled.push_back(labels[static_cast<std::size_t>(i)]);
  // Some groups much larger than others; every group has a sample. Ids are not 0, 1, 2, ...
  for (std::size_t i = 0; i < shuffled.size(); ++i) {
    const std::int64_t g =
        static_cast<std::int64_t>(i) < group_count
            ? static_cast<std::int64_t>(i)
            : std::min(below(static_cast<std::uint64_t>(group_count)), below(static_cast<std::uint64_t>(group_count)));
    groups.push_back(1000 - 3 * g);
  }
  return {dataset_of(std::move(shuffled), std::move(groups)), k, seed};
}

constexpr std::uint64_t kCases = 150;

void expect_disjoint_and_covering(const Dataset& data, const Split& split) {
  std::vector<std::int64_t> all;
  for (const auto* part : {&split.train, &split.validation, &split.test}) {
    EXPECT_TRUE(std::is_sorted(part->begin(), part->end()));
    all.insert(all.end(), part->begin(), part->end());
  }
  EXPECT_FALSE(split.train.empty());
  EXPECT_FALSE(split.test.empty());
  std::sort(all.begin(), all.end());
  ASSERT_EQ(static_cast<std::int64_t>(all.size()), data.size());
  for (std::int64_t i = 0; i < data.size(); ++i) ASSERT_EQ(all[static_cast<std::size_t>(i)], i);
}

void expect_tests_partition(const Dataset& data, const std::vector<Split>& splits) {
  std::map<int, std::vector<int>> times;  // by repeat: how often a sample is held out
  for (const Split& split : splits) {
    auto& counts = times[split.repeat];
    counts.resize(static_cast<std::size_t>(data.size()));
    for (const std::int64_t i : split.test) ++counts[static_cast<std::size_t>(i)];
  }
  for (const auto& [repeat, counts] : times) EXPECT_THAT(counts, testing::Each(1)) << "repeat " << repeat;
}

std::vector<std::int64_t> class_counts(const Dataset& data, const std::vector<std::int64_t>& part) {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(data.classes()));
  for (const std::int64_t i : part) ++counts[static_cast<std::size_t>(data.labels()[static_cast<std::size_t>(i)])];
  return counts;
}

std::set<std::int64_t> groups_of(const Dataset& data, const std::vector<std::int64_t>& part) {
  std::set<std::int64_t> ids;
  for (const std::int64_t i : part) ids.insert(data.groups()[static_cast<std::size_t>(i)]);
  return ids;
}

bool share_nothing(const std::set<std::int64_t>& a, const std::set<std::int64_t>& b) {
  return std::none_of(a.begin(), a.end(), [&](std::int64_t id) { return b.contains(id); });
}

class EveryKind : public testing::TestWithParam<const char*> {
 protected:
  bool grouped() const {
    const std::string kind = GetParam();
    return kind == "group" || kind == "stratified_group" || kind == "leave_one_group_out";
  }
  bool stratified() const { return GetParam() == std::string("stratified") || GetParam() == std::string("repeated"); }
};

TEST_P(EveryKind, PartsAreDisjointAndCoverTheData) {
  for (std::uint64_t seed = 0; seed < kCases; ++seed) {
    const Case c = random_case(seed);
    for (const double validation : {0.0, 0.2}) {
      const auto splits = make_splits(c.data, folds(GetParam(), c.k, seed, validation, 2));
      for (const Split& split : splits) {
        expect_disjoint_and_covering(c.data, split);
        EXPECT_EQ(split.validation.empty(), validation == 0);
      }
      if (GetParam() != std::string("held_out_class")) expect_tests_partition(c.data, splits);
      if (HasFailure()) FAIL() << "case " << seed << " validation " << validation;
    }
  }
}

TEST_P(EveryKind, IsOrderedDeterministicAndDependsOnTheSeed) {
  const Case c = random_case(5);
  const auto splits = make_splits(c.data, folds(GetParam(), c.k, 11, 0.2, 3));
  const auto again = make_splits(c.data, folds(GetParam(), c.k, 11, 0.2, 3));
  const auto other = make_splits(c.data, folds(GetParam(), c.k, 12, 0.2, 3));
  ASSERT_EQ(splits.size(), again.size());
  ASSERT_EQ(splits.size() % 3, 0u);
  std::set<Digest> hashes;
  bool differs = false;
  for (std::size_t i = 0; i < splits.size(); ++i) {
    EXPECT_EQ(splits[i].hash(), again[i].hash());
    EXPECT_EQ(splits[i].repeat, static_cast<int>(i / (splits.size() / 3)));
    EXPECT_EQ(splits[i].fold, static_cast<int>(i % (splits.size() / 3)));
    hashes.insert(splits[i].hash());
    differs = differs || splits[i].hash() != other[i].hash();
  }
  EXPECT_EQ(hashes.size(), splits.size());
  EXPECT_TRUE(differs);
}

TEST_P(EveryKind, ValidationComesOutOfTrainingAlone) {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const Case c = random_case(seed);
    const auto without = make_splits(c.data, folds(GetParam(), c.k, seed));
    const auto with = make_splits(c.data, folds(GetParam(), c.k, seed, 0.25));
    ASSERT_EQ(without.size(), with.size());
    for (std::size_t i = 0; i < with.size(); ++i) {
      EXPECT_EQ(with[i].test, without[i].test);
      std::vector<std::int64_t> both;
      std::merge(with[i].train.begin(), with[i].train.end(), with[i].validation.begin(), with[i].validation.end(),
                 std::back_inserter(both));
      EXPECT_EQ(both, without[i].train);
      if (grouped()) {
        EXPECT_TRUE(share_nothing(groups_of(c.data, with[i].train), groups_of(c.data, with[i].validation)));
        continue;
      }
      const auto carved = class_counts(c.data, with[i].validation), whole = class_counts(c.data, without[i].train);
      for (std::size_t label = 0; label < carved.size(); ++label) {
        EXPECT_NEAR(static_cast<double>(carved[label]), 0.25 * static_cast<double>(whole[label]), 1.26);
        EXPECT_TRUE(whole[label] == 0 || carved[label] < whole[label]) << "a class is gone from training";
      }
    }
    if (HasFailure()) FAIL() << "case " << seed;
  }
}

TEST_P(EveryKind, ClassCountsAndSizesDifferByAtMostOneWhereStratified) {
  if (!stratified()) return;
  for (std::uint64_t seed = 0; seed < kCases; ++seed) {
    const Case c = random_case(seed);
    const auto splits = make_splits(c.data, folds(GetParam(), c.k, seed));
    ASSERT_EQ(static_cast<int>(splits.size()), c.k);
    std::vector<std::int64_t> low(static_cast<std::size_t>(c.data.classes()) + 1, c.data.size()), high(low.size(), 0);
    for (const Split& split : splits) {
      auto counts = class_counts(c.data, split.test);
      counts.push_back(static_cast<std::int64_t>(split.test.size()));
      for (std::size_t j = 0; j < counts.size(); ++j) {
        low[j] = std::min(low[j], counts[j]);
        high[j] = std::max(high[j], counts[j]);
      }
    }
    for (std::size_t j = 0; j < low.size(); ++j) ASSERT_LE(high[j] - low[j], 1) << "case " << seed;
  }
}

TEST_P(EveryKind, NoGroupIsInTwoPartsWhereGrouped) {
  if (!grouped()) return;
  for (std::uint64_t seed = 0; seed < kCases; ++seed) {
    const Case c = random_case(seed);
    for (const Split& split : make_splits(c.data, folds(GetParam(), c.k, seed, 0.2))) {
      const auto train = groups_of(c.data, split.train), validation = groups_of(c.data, split.validation),
                 held = groups_of(c.data, split.test);
      ASSERT_TRUE(share_nothing(train, held) && share_nothing(validation, held) && share_nothing(train, validation))
          << "case " << seed;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Folds, EveryKind,
                         testing::Values("kfold", "stratified", "repeated", "group", "stratified_group",
                                         "leave_one_group_out", "held_out_class"),
                         [](const auto& info) { return std::string(info.param); });

TEST(KFold, SizesDifferByAtMostOne) {
  const Dataset data = dataset_of(std::vector<std::int64_t>(23, 0));
  std::multiset<std::size_t> sizes;
  for (const Split& split : make_splits(data, folds("kfold", 5))) sizes.insert(split.test.size());
  EXPECT_THAT(sizes, testing::ElementsAre(4, 4, 5, 5, 5));
}

TEST(GroupFolds, SizesDifferByAtMostTheLargestGroup) {
  for (std::uint64_t seed = 0; seed < kCases; ++seed) {
    const Case c = random_case(seed);
    std::map<std::int64_t, std::size_t> group_sizes;
    for (const std::int64_t g : c.data.groups()) ++group_sizes[g];
    std::size_t largest = 0, low = SIZE_MAX, high = 0;
    for (const auto& [id, size] : group_sizes) largest = std::max(largest, size);
    for (const Split& split : make_splits(c.data, folds("group", c.k, seed))) {
      low = std::min(low, split.test.size());
      high = std::max(high, split.test.size());
    }
    ASSERT_LE(high - low, largest) << "case " << seed;
  }
}

// Mean over classes of the spread of a class's share between folds.
double class_spread(const Dataset& data, const std::vector<Split>& splits) {
  const auto classes = static_cast<std::size_t>(data.classes());
  std::vector<double> totals(classes), sums(classes), squares(classes);
  for (const std::int64_t label : data.labels()) ++totals[static_cast<std::size_t>(label)];
  for (const Split& split : splits) {
    const auto counts = class_counts(data, split.test);
    for (std::size_t c = 0; c < classes; ++c) {
      const double share = static_cast<double>(counts[c]) / totals[c];
      sums[c] += share;
      squares[c] += share * share;
    }
  }
  const auto k = static_cast<double>(splits.size());
  double spread = 0;
  for (std::size_t c = 0; c < classes; ++c)
    spread += std::sqrt(std::max(0.0, squares[c] / k - sums[c] * sums[c] / (k * k))) / static_cast<double>(classes);
  return spread;
}

TEST(StratifiedGroup, ClassSharesAreMoreAlikeThanWithGroupsAlone) {
  double stratified = 0, plain = 0;
  for (std::uint64_t seed = 0; seed < kCases; ++seed) {
    const Case c = random_case(seed);
    stratified += class_spread(c.data, make_splits(c.data, folds("stratified_group", c.k, seed)));
    plain += class_spread(c.data, make_splits(c.data, folds("group", c.k, seed)));
  }
  EXPECT_LT(stratified, 0.75 * plain);
}

TEST(StratifiedGroup, IsExactWhereItCanBe) {
  // 20 groups of 2 + 2 samples in 5 folds: 4 groups each, every class alike.
  std::vector<std::int64_t> labels, groups;
  for (int i = 0; i < 80; ++i) {
    labels.push_back(i % 2);
    groups.push_back(i / 4);
  }
  const Dataset data = dataset_of(labels, groups);
  for (const Split& split : make_splits(data, folds("stratified_group", 5, 3)))
    EXPECT_THAT(class_counts(data, split.test), testing::ElementsAre(8, 8));
}

TEST(Repeats, ShuffleAnew) {
  const Case c = random_case(3);
  for (const char* kind : {"kfold", "stratified", "repeated", "group", "stratified_group"}) {
    const auto splits = make_splits(c.data, folds(kind, c.k, 0, 0, 2));
    const auto k = static_cast<std::size_t>(c.k);
    bool differs = false;
    for (std::size_t fold = 0; fold < k; ++fold) differs = differs || splits[fold].test != splits[k + fold].test;
    EXPECT_TRUE(differs) << kind;
  }
}

TEST(LeaveOneGroupOut, HoldsOutEachGroupInTurn) {
  const Dataset data = dataset_of({0, 1, 0, 1, 0}, {8, 3, 8, 5, 3});
  const auto splits = make_splits(data, folds("leave_one_group_out", 5));
  ASSERT_EQ(splits.size(), 3u);
  EXPECT_THAT(splits[0].test, testing::ElementsAre(1, 4));
  EXPECT_THAT(splits[1].test, testing::ElementsAre(3));
  EXPECT_THAT(splits[2].test, testing::ElementsAre(0, 2));
}

TEST(HeldOutClass, TrainingNeverSeesTheClassAndTestHoldsAllOfIt) {
  for (std::uint64_t seed = 0; seed < kCases; ++seed) {
    const Case c = random_case(seed);
    const auto total = [&] {
      std::vector<std::int64_t> counts(static_cast<std::size_t>(c.data.classes()));
      for (const std::int64_t label : c.data.labels()) ++counts[static_cast<std::size_t>(label)];
      return counts;
    }();
    const auto splits = make_splits(c.data, folds("held_out_class", c.k, seed, 0.1));
    ASSERT_EQ(static_cast<int>(splits.size()), c.data.classes());
    for (const Split& split : splits) {
      ASSERT_EQ(split.held_out_class, split.fold);
      const auto held = static_cast<std::size_t>(split.held_out_class);
      ASSERT_EQ(class_counts(c.data, split.train)[held], 0);
      ASSERT_EQ(class_counts(c.data, split.validation)[held], 0);
      const auto test_counts = class_counts(c.data, split.test);
      ASSERT_EQ(test_counts[held], total[held]);
      for (std::size_t label = 0; label < total.size(); ++label)
        if (label != held) {
          ASSERT_NEAR(static_cast<double>(test_counts[label]), static_cast<double>(total[label]) / c.k, 1.0);
        }
    }
  }
}

TEST(Predefined, FollowsTheColumn) {
  const Dataset data = dataset_of({0, 1, 0, 1, 0, 1}, {}, {-1, 7, 2, 7, -1, 2});
  const auto splits = make_splits(data, folds("predefined", 5));
  ASSERT_EQ(splits.size(), 2u);
  EXPECT_THAT(splits[0].test, testing::ElementsAre(2, 5));
  EXPECT_THAT(splits[0].train, testing::ElementsAre(0, 1, 3, 4));
  EXPECT_THAT(splits[1].test, testing::ElementsAre(1, 3));
}

TEST(Folds, WhatTheDataForbidIsToldWithNumbers) {
  const auto told = [](const Dataset& data, const FoldSpec& spec) {
    return error_of(ErrorKind::config, [&] { make_splits(data, spec); });
  };
  const Dataset data = dataset_of({0, 0, 0, 0, 0, 1, 1, 1}, {0, 0, 1, 1, 0, 0, 1, 1});
  const Dataset bare = dataset_of({0, 0, 0, 1, 1, 1});
  for (const char* kind : {"stratified", "repeated", "held_out_class"})
    EXPECT_THAT(told(data, folds(kind, 5)), HasSubstr("5 folds cannot be made of 3 samples, as many as class 'c1'"));
  for (const char* kind : {"group", "stratified_group"}) {
    EXPECT_THAT(told(data, folds(kind, 5)), HasSubstr("5 folds cannot be made of 2 groups; use at most 2"));
    EXPECT_THAT(told(bare, folds(kind, 2)), HasSubstr("needs groups"));
  }
  EXPECT_THAT(told(bare, folds("leave_one_group_out", 2)), HasSubstr("needs groups"));
  EXPECT_THAT(told(dataset_of({0, 1}, {3, 3}), folds("leave_one_group_out", 2)), HasSubstr("at least 2 groups"));
  EXPECT_THAT(told(data, folds("kfold", 9)), HasSubstr("9 folds cannot be made of 8 samples"));
  EXPECT_THAT(told(data, folds("kfold", 1)), HasSubstr("at least 2 folds, not 1"));
  EXPECT_THAT(told(data, folds("kfold", 2, 0, 0, 0)), HasSubstr("folds.repeats"));
  EXPECT_THAT(told(data, folds("kfold", 2, 0, 1.0)), HasSubstr("folds.validation"));
  EXPECT_THAT(told(data, folds("kfold", 2, 0, NAN)), HasSubstr("folds.validation"));
  EXPECT_THAT(told(data, folds("kfold", 2, 0, 0.01)), HasSubstr("folds.validation: 0.01 of the "));
  EXPECT_THAT(told(data, folds("group", 2, 0, 0.3)), HasSubstr("they are one group"));
  EXPECT_THAT(told(data, folds("predefined", 2)), HasSubstr("dataset.fold_column"));
  EXPECT_THAT(told(dataset_of({0, 1}, {}, {-1, -1}), folds("predefined", 2)), HasSubstr("none is held out"));
  EXPECT_THAT(told(dataset_of({0, 1}, {}, {4, 4}), folds("predefined", 2)), HasSubstr("none is left to train on"));
  EXPECT_THAT(told(data, folds("bootstrap", 2)), HasSubstr("'bootstrap' is not known"));
}

TEST(Folds, SummaryCountsTheParts) {
  const Case c = random_case(1);
  const auto splits = make_splits(c.data, folds("stratified", c.k, 0, 0.2));
  const DatasetSummary summary = summarise(c.data, splits);
  EXPECT_EQ(summary.fingerprint, c.data.fingerprint());
  EXPECT_EQ(summary.samples, c.data.size());
  EXPECT_EQ(summary.classes, c.data.classes());
  ASSERT_EQ(summary.splits.size(), splits.size());
  for (const SplitSummary& split : summary.splits)
    EXPECT_EQ(split.train_n + split.validation_n + split.test_n, c.data.size());
}

// Splits are part of stored results: these indices must come out on every platform and in every version.
TEST(Folds, AreThoseOfEarlierVersions) {
  const Dataset data = dataset_of({0, 1, 0, 1, 0, 1, 0, 1, 0, 1}, {0, 0, 1, 1, 2, 2, 3, 3, 4, 4});
  const auto tests_of = [&](const char* kind) {
    std::string told;
    for (const Split& split : make_splits(data, folds(kind, 2, 42))) {
      for (const std::int64_t i : split.test) told += std::to_string(i);
      told += ' ';
    }
    return told;
  };
  EXPECT_EQ(tests_of("kfold"), "26789 01345 ");
  EXPECT_EQ(tests_of("stratified"), "04578 12369 ");
  EXPECT_EQ(tests_of("group"), "012389 4567 ");
  EXPECT_EQ(tests_of("stratified_group"), "012367 4589 ");
}

}  // namespace
}  // namespace tenfold

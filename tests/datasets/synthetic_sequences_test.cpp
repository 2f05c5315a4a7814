#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "datasets/dataset.h"
#include "datasets/philox.h"
#include "datasets/sample_store.h"
#include "tests/datasets/test_files.h"

namespace tenfold {
namespace {

using test::error_of;
using testing::HasSubstr;

DatasetSpec small() {
  DatasetSpec spec;
  spec.kind = "synthetic_sequences";
  spec.samples = 200;
  spec.features = 40;
  spec.classes = 6;
  spec.group_count = 5;
  spec.separation = 8;
  return spec;
}

TEST(SyntheticSequences, LengthsAreAsAskedFor) {
  for (const auto& [samples, least, most, mean] :
       std::vector<std::tuple<int, int, int, double>>{{10'322, 19, 200, 76.9}, {500, 1, 9, 3.0}, {300, 5, 50, 44.0}}) {
    DatasetSpec spec = small();
    spec.samples = samples;
    spec.features = 1;
    spec.min_steps = least;
    spec.max_steps = most;
    spec.mean_steps = mean;
    const Dataset data = load_dataset(spec);
    std::int64_t total = 0, shortest = most, longest = 0;
    for (const std::int64_t length : data.lengths()) {
      total += length;
      shortest = std::min(shortest, length);
      longest = std::max(longest, length);
    }
    EXPECT_EQ(shortest, least);
    EXPECT_EQ(longest, most);
    EXPECT_NEAR(static_cast<double>(total) / samples, mean, 0.01 * mean);
  }
}

// What columns are read, how many sequences there are around it, and where it is cut changes no value.
TEST(SyntheticSequences, AValueIsAFunctionOfItsPlaceAlone) {
  const Dataset all = load_dataset(small());
  auto spec = small();
  spec.feature_ranges = {"17:39", "1:6"};
  spec.max_length = 30;
  const Dataset some = load_dataset(spec);
  EXPECT_EQ(some.features(), 27);
  for (std::int64_t i = 0; i < all.size(); ++i) {
    ASSERT_EQ(some.steps(i), std::min<std::int64_t>(all.steps(i), 30));
    for (std::int64_t t = 0; t < some.steps(i); ++t)
      for (std::int64_t c = 0; c < 27; ++c) {
        const std::int64_t column = c < 22 ? 17 + c : c - 21;
        ASSERT_EQ(some.sample(i)[static_cast<std::size_t>(27 * t + c)],
                  all.sample(i)[static_cast<std::size_t>(40 * t + column)]);
      }
  }
  EXPECT_EQ(load_dataset(small()).fingerprint(), all.fingerprint());
  spec = small();
  spec.seed = 1;
  EXPECT_NE(load_dataset(spec).fingerprint(), all.fingerprint());
}

TEST(SyntheticSequences, BlocksHaveTheirScales) {
  auto spec = small();
  spec.features = 500;
  spec.samples = 100;
  spec.separation = 2;
  const Dataset data = load_dataset(spec);
  float largest[5] = {};
  double sum[5] = {};
  for (std::size_t v = 0; v < data.samples().size(); ++v) {
    const float x = data.samples()[v];
    const std::size_t block = v % 500 / 100;
    ASSERT_GE(x, 0);
    if (block < 2) {
      ASSERT_EQ(x, std::floor(x));
    }
    largest[block] = std::max(largest[block], x);
    sum[block] += x;
  }
  EXPECT_LT(largest[0], 30);
  EXPECT_GT(sum[0], 3 * sum[1]);
  EXPECT_GT(largest[1], 10);
  EXPECT_GT(largest[2], 1e4);
  EXPECT_GT(largest[3], 1e6);
  EXPECT_GT(largest[4], 2e8);
  EXPECT_LE(largest[4], 2e9);
}

TEST(SyntheticSequences, LabelsDwellAndFollowFewOthers) {
  const Dataset data = load_dataset(small());
  EXPECT_EQ(data.label_kind(), LabelKind::step);
  EXPECT_EQ(data.classes(), 6);
  std::set<std::int64_t> seen;
  std::int64_t changes = 0, steps = 0;
  for (std::int64_t i = 0; i < data.size(); ++i) {
    const auto labels = data.labels().subspan(static_cast<std::size_t>(data.starts()[static_cast<std::size_t>(i)]),
                                              static_cast<std::size_t>(data.steps(i)));
    std::int64_t run = 0;
    for (std::size_t t = 0; t < labels.size(); ++t) {
      seen.insert(labels[t]);
      ++run;
      if (t + 1 == labels.size() || labels[t + 1] == labels[t]) continue;
      EXPECT_GE(run, 4);
      EXPECT_LE(run, 9);
      run = 0;
      ++changes;
    }
    steps += data.steps(i);
  }
  EXPECT_EQ(seen.size(), 6u);
  EXPECT_NEAR(static_cast<double>(steps) / static_cast<double>(changes), 6.9, 0.5);
  EXPECT_EQ(data.group_names().size(), 5u);
  EXPECT_EQ(data.groups().front(), 0);
  EXPECT_EQ(data.groups().back(), 4);
  EXPECT_TRUE(std::is_sorted(data.groups().begin(), data.groups().end()));
}

TEST(SyntheticSequences, LogarithmsAreThoseOfTheLibrary) {
  auto spec = small();
  const Dataset raw = load_dataset(spec);
  spec.transform = "log1p";
  const Dataset transformed = load_dataset(spec);
  for (std::size_t v = 0; v < raw.samples().size(); ++v)
    ASSERT_NEAR(transformed.samples()[v], std::log1p(static_cast<double>(raw.samples()[v])),
                1e-6 * std::log1p(raw.samples()[v]) + 1e-9);
}

TEST(SyntheticSequences, RefusesWhatCannotBe) {
  const auto told = [](auto change) {
    auto spec = small();
    change(spec);
    return error_of(ErrorKind::config, [&] { load_dataset(spec); });
  };
  EXPECT_THAT(told([](auto& s) { s.max_steps = 10; }), HasSubstr("dataset.max_steps"));
  EXPECT_THAT(told([](auto& s) { s.mean_steps = 300; }), HasSubstr("dataset.mean_steps"));
  EXPECT_THAT(told([](auto& s) { s.group_count = 201; }), HasSubstr("dataset.group_count"));
  EXPECT_THAT(told([](auto& s) { s.separation = INFINITY; }), HasSubstr("dataset.separation"));
  EXPECT_THAT(told([](auto& s) { s.feature_ranges = {"0:41"}; }), HasSubstr("'0:41'"));
  EXPECT_THAT(told([](auto& s) { s.transform = "sqrt"; }), HasSubstr("dataset.transform"));
}

TEST(SampleStore, HoldsTheSameInMemoryAndOnDisk) {
  for (const std::uint64_t memory_bytes : {std::uint64_t{0}, UINT64_MAX}) {
    SampleStore store(100'000, "a test", memory_bytes);
    EXPECT_EQ(store.on_disk(), memory_bytes == 0);
    for (std::size_t i = 0; i < store.values().size(); ++i) store.values()[i] = static_cast<float>(i);
    Dataset::Parts parts;
    parts.kind = SampleKind::sequence;
    parts.sample_shape = {4};
    parts.starts = {0, 1000};
    parts.lengths = {1000, 24'000};
    parts.labels = {0, 1};
    parts.class_names = {"a", "b"};
    std::move(store).give_to(parts);
    const Dataset data(std::move(parts));
    EXPECT_EQ(data.sample(1)[5], 4005.0f);
  }
  EXPECT_THAT(error_of(ErrorKind::data, [] { SampleStore store(INT64_MAX, "a test"); }), HasSubstr("a test"));
}

TEST(Philox, NormalNumbersFromAnyPlace) {
  const RandomStream stream(3, Purpose::synthetic, 0, 0, 9);
  std::vector<float> all(300);
  fill_normal(stream, all);
  for (std::size_t first = 0; first < 150; ++first)
    for (const std::size_t count : {0, 1, 2, 3, 5, 64, 130}) {
      std::vector<float> some(count);
      fill_normal_from(stream, first, some);
      EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin() + static_cast<std::ptrdiff_t>(first)));
    }
}

}  // namespace
}  // namespace tenfold

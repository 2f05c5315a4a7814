#include "datasets/normaliser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "datasets/folds.h"
#include "datasets/philox.h"
#include "tests/datasets/test_files.h"

namespace tenfold {
namespace {

using test::error_of;
using testing::ElementsAre;
using testing::FloatNear;
using testing::HasSubstr;

Dataset dataset_of(std::vector<std::int64_t> shape, std::vector<float> samples, std::vector<bool> one_hot = {}) {
  Dataset::Parts parts;
  std::int64_t features = 1;
  for (const std::int64_t extent : shape) features *= extent;
  const auto n = static_cast<std::int64_t>(samples.size()) / features;
  parts.sample_shape = std::move(shape);
  parts.samples = std::move(samples);
  parts.one_hot = std::move(one_hot);
  for (std::int64_t i = 0; i < n; ++i) parts.labels.push_back(i % 2);
  parts.class_names = {"a", "b"};
  return Dataset(std::move(parts));
}

TEST(Normaliser, StandardGivesMeanZeroAndVarianceOne) {
  std::vector<float> samples(500 * 3);
  fill_normal(RandomStream(0, Purpose::query, 0, 0, 0), samples);
  for (std::size_t i = 0; i < samples.size(); ++i)
    samples[i] = samples[i] * static_cast<float>(1 + i % 3) + 1000.0f * static_cast<float>(i % 3);
  const Dataset data = dataset_of({3}, samples);
  std::vector<std::int64_t> train(400);
  std::iota(train.begin(), train.end(), std::int64_t{0});
  const Normaliser normaliser = Normaliser::fit(data, train, "standard");
  samples.resize(400 * 3);
  normaliser.apply(samples);
  for (std::size_t f = 0; f < 3; ++f) {
    double sum = 0, squares = 0;
    for (std::size_t i = f; i < samples.size(); i += 3) {
      sum += samples[i];
      squares += double{samples[i]} * samples[i];
    }
    EXPECT_NEAR(sum / 400, 0, 1e-4);
    EXPECT_NEAR(squares / 400, 1, 1e-4);
  }
}

TEST(Normaliser, MinmaxGivesZeroToOne) {
  const Dataset data = dataset_of({2}, {-5, 1, 5, 1, 0, 1});
  const Normaliser normaliser = Normaliser::fit(data, std::vector<std::int64_t>{0, 1, 2}, "minmax");
  std::vector<float> samples(data.samples().begin(), data.samples().end());
  normaliser.apply(samples);
  EXPECT_THAT(samples, ElementsAre(0, 0, 1, 0, FloatNear(0.5f, 1e-6f), 0));  // a constant feature is only moved
}

TEST(Normaliser, NoneChangesNothing) {
  const Dataset data = dataset_of({2}, {-5, 1, 5, 1});
  const Normaliser normaliser = Normaliser::fit(data, std::vector<std::int64_t>{0, 1}, "none");
  EXPECT_THAT(normaliser.offset, ElementsAre(0, 0));
  EXPECT_THAT(normaliser.scale, ElementsAre(1, 1));
}

TEST(Normaliser, ConstantAndTinyFeaturesStayFinite) {
  const float value = 0.1f;
  std::vector<float> samples;
  for (int i = 0; i < 101; ++i) samples.insert(samples.end(), {value, i == 0 ? 1e-44f : 0.0f});
  const Dataset data = dataset_of({2}, samples);
  std::vector<std::int64_t> all(101);
  std::iota(all.begin(), all.end(), std::int64_t{0});
  const Normaliser normaliser = Normaliser::fit(data, all, "standard");
  EXPECT_EQ(normaliser.offset[0], value);
  EXPECT_THAT(normaliser.scale, ElementsAre(1, 1));
}

TEST(Normaliser, ImagesAreFittedPerChannel) {
  // Two images of 2 channels, 1 x 2 pixels.
  const Dataset data = dataset_of({2, 1, 2}, {0, 2, 10, 10, 4, 6, 30, 30});
  const Normaliser normaliser = Normaliser::fit(data, std::vector<std::int64_t>{0, 1}, "standard");
  EXPECT_THAT(normaliser.offset, ElementsAre(3, 3, 20, 20));
  EXPECT_THAT(normaliser.scale, ElementsAre(FloatNear(1 / std::sqrt(5.0f), 1e-6f), normaliser.scale[0],
                                            FloatNear(0.1f, 1e-7f), normaliser.scale[2]));
}

TEST(Normaliser, OneHotFeaturesAreKeptAndUnseenOnesSilenced) {
  const Dataset data = dataset_of({3}, {5, 1, 0, 7, 1, 0, 9, 0, 1}, {false, true, true});
  const Normaliser normaliser = Normaliser::fit(data, std::vector<std::int64_t>{0, 1}, "standard");
  EXPECT_THAT(normaliser.offset, ElementsAre(6, 0, 0));
  EXPECT_THAT(normaliser.scale, ElementsAre(1, 1, 0));
  for (const char* kind : {"minmax", "none"})
    EXPECT_EQ(Normaliser::fit(data, std::vector<std::int64_t>{0, 1}, kind).scale[2], 0.0f) << kind;
}

// Whatever stands in the held-out part, labels least of all, the normaliser is the same.
TEST(Normaliser, HeldOutSamplesChangeNothing) {
  DatasetSpec spec;
  spec.kind = "synthetic";
  spec.samples = 200;
  spec.features = 5;
  const Dataset data = load_dataset(spec);
  FoldSpec folds;
  folds.validation = 0.1;
  for (const Split& split : make_splits(data, folds)) {
    Dataset::Parts parts{{5},
                         {data.samples().begin(), data.samples().end()},
                         {data.labels().begin(), data.labels().end()},
                         {},
                         {},
                         data.class_names(),
                         {}};
    for (const auto* part : {&split.test, &split.validation})
      for (const std::int64_t i : *part) {
        for (std::int64_t f = 0; f < 5; ++f)
          parts.samples[static_cast<std::size_t>(5 * i + f)] = -1e6f * static_cast<float>(f + 1);
        parts.labels[static_cast<std::size_t>(i)] = 2 - parts.labels[static_cast<std::size_t>(i)];
      }
    const Dataset changed(std::move(parts));
    for (const char* kind : {"standard", "minmax"}) {
      const Normaliser a = Normaliser::fit(data, split.train, kind), b = Normaliser::fit(changed, split.train, kind);
      EXPECT_EQ(a.offset, b.offset);
      EXPECT_EQ(a.scale, b.scale);
    }
  }
}

// Sequences of 1, 3 and 2 steps, of groups 0, 1 and 0.
Dataset sequences_of(std::vector<float> samples) {
  Dataset::Parts parts;
  parts.kind = SampleKind::sequence;
  parts.sample_shape = {static_cast<std::int64_t>(samples.size()) / 6};
  parts.samples = std::move(samples);
  parts.starts = {0, 1, 4};
  parts.lengths = {1, 3, 2};
  parts.labels = {0, 1, 1};
  parts.groups = {0, 1, 0};
  parts.class_names = {"a", "b"};
  return Dataset(std::move(parts));
}

TEST(Normaliser, SequencesAreFittedOverTheirSteps) {
  const Dataset data = sequences_of({7, 1, 2, 6, 9, 9});
  const Normaliser normaliser = Normaliser::fit(data, std::vector<std::int64_t>{0, 1}, "standard");
  EXPECT_THAT(normaliser.offset, ElementsAre(4));
  EXPECT_THAT(normaliser.scale, ElementsAre(FloatNear(1 / std::sqrt(6.5f), 1e-6f)));
  EXPECT_THAT(Normaliser::fit(data, std::vector<std::int64_t>{0, 1}, "minmax").scale,
              ElementsAre(FloatNear(1.0f / 6, 1e-7f)));
}

TEST(Normaliser, GroupsHaveRowsOfTheirOwn) {
  const Dataset data = sequences_of({7, 1, 2, 6, 9, 11});
  // Group 0 is trained on its first sequence alone; group 1, held out, has what its own steps say.
  const Normaliser normaliser = Normaliser::fit(data, std::vector<std::int64_t>{2}, "minmax", true);
  EXPECT_EQ(normaliser.rows, 2);
  EXPECT_THAT(normaliser.offset, ElementsAre(9, 1));
  EXPECT_THAT(normaliser.scale, ElementsAre(0.5f, 0.2f));
  std::vector<float> samples = {1, 6};
  normaliser.apply(samples, 1);
  EXPECT_THAT(samples, ElementsAre(0, 1));
  error_of(ErrorKind::internal, [&] { normaliser.apply(samples, 2); });
  EXPECT_THAT(error_of(ErrorKind::config,
                       [] {
                         const Dataset plain = dataset_of({1}, {1, 2});
                         Normaliser::fit(plain, std::vector<std::int64_t>{0}, "minmax", true);
                       }),
              HasSubstr("dataset.normalise_by"));
}

TEST(Normaliser, RobustIsMedianAndInterquartileRange) {
  // Quartiles as numpy's: of {1, 2, 3, 4, 5, 1e9} they are 2.25, 3.5 and 4.75; of mostly one value the deviation.
  const Dataset data = sequences_of({3, 0, 1, 0, 1e9f, 0, 5, 0, 2, 0, 4, 6});
  const Normaliser normaliser = Normaliser::fit(data, std::vector<std::int64_t>{0, 1, 2}, "robust");
  EXPECT_THAT(normaliser.offset, ElementsAre(3.5f, 0));
  EXPECT_THAT(normaliser.scale, ElementsAre(FloatNear(0.4f, 1e-6f), FloatNear(1 / std::sqrt(5.0f), 1e-6f)));
  const Dataset constant = sequences_of({3, 3, 3, 3, 3, 3});
  EXPECT_THAT(Normaliser::fit(constant, std::vector<std::int64_t>{0, 1}, "robust").scale, ElementsAre(1));
}

// More steps than are looked at: evenly spaced ones tell the same.
TEST(Normaliser, RobustOfManySteps) {
  std::vector<float> samples(300'000);
  fill_normal(RandomStream(0, Purpose::query, 0, 0, 1), samples);
  for (float& x : samples) x = 10 + 3 * x;
  Dataset::Parts parts;
  parts.kind = SampleKind::sequence;
  parts.sample_shape = {1};
  parts.samples = std::move(samples);
  parts.starts = {0, 100'000};
  parts.lengths = {100'000, 200'000};
  parts.labels = {0, 1};
  parts.class_names = {"a", "b"};
  const Normaliser normaliser = Normaliser::fit(Dataset(std::move(parts)), std::vector<std::int64_t>{0, 1}, "robust");
  EXPECT_NEAR(normaliser.offset[0], 10, 0.05);
  EXPECT_NEAR(normaliser.scale[0], 1 / (3 * 1.349), 0.005);
}

TEST(Normaliser, RefusesAnUnknownKindAndNoSamples) {
  const Dataset data = dataset_of({1}, {1, 2});
  EXPECT_THAT(error_of(ErrorKind::config, [&] { Normaliser::fit(data, std::vector<std::int64_t>{0}, "rank"); }),
              HasSubstr("'rank' is not known"));
  EXPECT_THAT(error_of(ErrorKind::internal, [&] { Normaliser::fit(data, {}, "standard"); }),
              HasSubstr("training samples"));
}

}  // namespace
}  // namespace tenfold

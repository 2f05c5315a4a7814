#include "datasets/shift.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <set>

#include "datasets/philox.h"
#include "tests/datasets/test_files.h"

namespace tenfold {
namespace {

using test::error_of;
using testing::HasSubstr;

using Indices = std::vector<std::int64_t>;

Dataset dataset_of(std::vector<std::int64_t> shape, std::vector<float> samples, std::vector<bool> one_hot = {}) {
  Dataset::Parts parts;
  std::int64_t features = 1;
  for (const std::int64_t extent : shape) features *= extent;
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(samples.size()) / features; ++i) parts.labels.push_back(i % 2);
  parts.sample_shape = std::move(shape);
  parts.samples = std::move(samples);
  parts.one_hot = std::move(one_hot);
  parts.class_names = {"a", "b"};
  return Dataset(std::move(parts));
}

std::vector<float> uniform(std::size_t n) {
  std::vector<float> values(n);
  fill_uniform(RandomStream(9, Purpose::query, 0, 0, 0), values);
  return values;
}

Dataset images() { return dataset_of({2, 8, 6}, uniform(20 * 96)); }
Dataset rows() { return dataset_of({5}, uniform(2000 * 5)); }

Indices range(std::int64_t begin, std::int64_t end) {
  Indices indices(static_cast<std::size_t>(end - begin));
  std::iota(indices.begin(), indices.end(), begin);
  return indices;
}

ShiftSpec shift(const std::string& kind, int severity = 3) { return {kind, severity}; }

const char* const kKinds[] = {"gaussian_noise", "contrast", "blur", "translate", "feature_dropout", "rotate"};

TEST(Shift, NoneGathersTheSamples) {
  const Dataset data = images();
  const auto out = shifted_samples(data, Indices{7, 3}, range(10, 20), shift("none"), 0);
  EXPECT_TRUE(std::equal(out.begin(), out.begin() + 96, data.sample(7).begin()));
  EXPECT_TRUE(std::equal(out.begin() + 96, out.end(), data.sample(3).begin()));
}

TEST(Shift, DependsOnSeedAndSampleOnly) {
  const Dataset data = images();
  for (const char* kind : kKinds) {
    const auto all = shifted_samples(data, range(0, 10), range(10, 20), shift(kind), 5);
    const auto some = shifted_samples(data, Indices{8, 2}, range(10, 20), shift(kind), 5);
    EXPECT_TRUE(std::equal(some.begin(), some.begin() + 96, all.begin() + 8 * 96)) << kind;
    EXPECT_TRUE(std::equal(some.begin() + 96, some.end(), all.begin() + 2 * 96)) << kind;
    EXPECT_NE(all, shifted_samples(data, range(0, 10), range(10, 20), shift("none"), 5)) << kind;
    const bool random = kind != std::string("contrast") && kind != std::string("blur");
    EXPECT_EQ(all != shifted_samples(data, range(0, 10), range(10, 20), shift(kind), 6), random) << kind;
  }
}

// The ranges come from training alone: what the other held-out samples are changes nothing.
TEST(Shift, OtherHeldOutSamplesChangeNothing) {
  auto values = uniform(20 * 96);
  const Dataset before = dataset_of({2, 8, 6}, values);
  std::fill(values.begin() + 3 * 96, values.begin() + 4 * 96, 1e6f);  // held out too
  const Dataset after = dataset_of({2, 8, 6}, values);
  for (const char* kind : kKinds)
    EXPECT_EQ(shifted_samples(before, Indices{0}, range(10, 20), shift(kind), 0),
              shifted_samples(after, Indices{0}, range(10, 20), shift(kind), 0))
        << kind;
}

TEST(Shift, EverySeverityIsStronger) {
  const Dataset data = images();
  for (const char* kind : kKinds) {
    double before = 0;
    for (int severity = 1; severity <= 5; ++severity) {
      const auto out = shifted_samples(data, range(0, 20), range(0, 20), shift(kind, severity), 1);
      double distance = 0;
      for (std::size_t i = 0; i < out.size(); ++i) distance += std::pow(out[i] - data.samples()[i], 2);
      EXPECT_GT(distance, before) << kind << ' ' << severity;
      before = distance;
    }
  }
}

TEST(GaussianNoise, HasItsShareOfEachFeaturesRange) {
  std::vector<float> values = uniform(2000 * 2);
  for (std::size_t i = 1; i < values.size(); i += 2) values[i] *= 100;
  const Dataset data = dataset_of({2}, values);
  const double expected[] = {0.08, 0.12, 0.18, 0.26, 0.38};
  for (int severity = 1; severity <= 5; ++severity) {
    const auto out = shifted_samples(data, range(0, 2000), range(0, 2000), shift("gaussian_noise", severity), 0);
    for (std::size_t f = 0; f < 2; ++f) {
      double squares = 0;
      for (std::size_t i = f; i < out.size(); i += 2) squares += std::pow(out[i] - values[i], 2) / 2000;
      EXPECT_NEAR(std::sqrt(squares), expected[severity - 1] * (f == 0 ? 1 : 100),
                  0.06 * expected[severity - 1] * (f == 0 ? 1 : 100));
    }
  }
}

TEST(GaussianNoise, ImagesHaveOneRange) {
  // A pixel that never changes in training gets noise all the same.
  std::vector<float> values = uniform(400 * 4);
  for (std::size_t i = 0; i < values.size(); i += 4) values[i] = 0.5f;
  const Dataset data = dataset_of({1, 2, 2}, values);
  const auto out = shifted_samples(data, range(0, 400), range(0, 400), shift("gaussian_noise", 5), 0);
  double squares = 0;
  for (std::size_t i = 0; i < out.size(); i += 4) squares += std::pow(out[i] - 0.5, 2) / 400;
  EXPECT_NEAR(std::sqrt(squares), 0.38, 0.05);
}

TEST(Shift, OneHotFeaturesAreLeftAlone) {
  const Dataset data = dataset_of({3}, {1, 0, 0.5f, 0, 1, 0.25f, 1, 0, 0.75f, 0, 1, 0.1f}, {true, true, false});
  for (const char* kind : {"gaussian_noise", "contrast", "feature_dropout"}) {
    const auto out = shifted_samples(data, range(0, 4), range(0, 4), shift(kind, 5), 0);
    bool changed = false;
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (i % 3 != 2) {
        EXPECT_EQ(out[i], data.samples()[i]) << kind;
      }
      changed = changed || out[i] != data.samples()[i];
    }
    EXPECT_TRUE(changed) << kind;
  }
}

TEST(Contrast, DrawsImagesToTheirMeanAndRowsToTheMiddle) {
  const Dataset image = dataset_of({1, 1, 4}, {0, 1, 2, 5, 9, 9, 9, 9});
  EXPECT_THAT(shifted_samples(image, Indices{0}, range(0, 2), shift("contrast", 3), 0),
              testing::Pointwise(testing::FloatNear(1e-6f), {1.6f, 1.8f, 2.0f, 2.6f}));
  const Dataset row = dataset_of({2}, {0, 10, 4, 30, 2, 20});
  EXPECT_THAT(shifted_samples(row, Indices{0}, range(0, 3), shift("contrast", 1), 0),
              testing::Pointwise(testing::FloatNear(1e-5f), {1.2f, 16.0f}));
}

TEST(FeatureDropout, SetsItsShareToTheLeastOfTraining) {
  const Dataset data = rows();
  const auto out = shifted_samples(data, range(0, 1000), range(1000, 2000), shift("feature_dropout", 2), 0);
  std::vector<float> low(5, 1.0f);
  for (std::int64_t i = 1000; i < 2000; ++i)
    for (std::size_t f = 0; f < 5; ++f) low[f] = std::min(low[f], data.sample(i)[f]);
  int dead = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (out[i] == data.samples()[i]) continue;
    EXPECT_EQ(out[i], low[i % 5]);
    ++dead;
  }
  EXPECT_NEAR(dead, 1000, 100);
}

TEST(Blur, SpreadsAPointAndKeepsTheSum) {
  std::vector<float> values(2 * 81, 0.0f);
  values[40] = 1;
  const Dataset data = dataset_of({1, 9, 9}, values);
  const auto out = shifted_samples(data, Indices{0}, Indices{1}, shift("blur", 5), 0);
  EXPECT_NEAR(std::accumulate(out.begin(), out.end(), 0.0), 1.0, 1e-5);
  EXPECT_NEAR(out[41] / out[40], std::exp(-0.5), 1e-5);
  EXPECT_FLOAT_EQ(out[41], out[39]);
  EXPECT_FLOAT_EQ(out[41], out[40 + 9]);
  EXPECT_NEAR(out[50] / out[40], std::exp(-1.0), 1e-5);
}

TEST(Blur, LeavesAFlatImageFlat) {
  const Dataset data = dataset_of({3, 5, 4}, std::vector<float>(2 * 60, 3.0f));
  for (const char* kind : {"blur", "translate", "rotate"})
    for (const float x : shifted_samples(data, Indices{0}, Indices{1}, shift(kind, 5), 0))
      ASSERT_NEAR(x, 3.0f, 1e-5f) << kind;
}

TEST(Translate, MovesByItsShareOfTheSide) {
  // The value of a pixel is its place: what is read in the middle tells the move.
  std::vector<float> values;
  for (int i = 0; i < 40; ++i)
    for (int c = 0; c < 2; ++c)
      for (int y = 0; y < 21; ++y)
        for (int x = 0; x < 41; ++x) values.push_back(static_cast<float>(c == 0 ? x : y));
  const Dataset data = dataset_of({2, 21, 41}, values);
  const auto out = shifted_samples(data, range(0, 40), range(0, 40), shift("translate", 4), 0);
  std::set<int> sides;
  for (std::size_t i = 0; i < 40; ++i) {
    const std::size_t middle = i * 2 * 861 + 10 * 41 + 20;
    const double dx = (out[middle] - 20) / 41, dy = (out[middle + 861] - 10) / 21;
    EXPECT_NEAR(std::hypot(dx, dy), 0.2, 1e-4);
    sides.insert((dx > 0 ? 1 : 0) + (dy > 0 ? 2 : 0));
  }
  EXPECT_EQ(sides.size(), 4u);
}

TEST(Rotate, TurnsByItsAngleToEitherSide) {
  std::vector<float> values;
  for (int i = 0; i < 40; ++i)
    for (int c = 0; c < 2; ++c)
      for (int y = 0; y < 21; ++y)
        for (int x = 0; x < 21; ++x) values.push_back(static_cast<float>(c == 0 ? x : y));
  const Dataset data = dataset_of({2, 21, 21}, values);
  const auto out = shifted_samples(data, range(0, 40), range(0, 40), shift("rotate", 3), 0);
  std::set<bool> sides;
  for (std::size_t i = 0; i < 40; ++i) {
    const std::size_t place = i * 2 * 441 + 10 * 21 + 15;  // five to the right of the middle
    const double dx = out[place] - 10, dy = out[place + 441] - 10;
    EXPECT_NEAR(std::hypot(dx, dy), 5, 1e-3);
    EXPECT_NEAR(std::abs(std::atan2(dy, dx)) * 180 / 3.14159265, 30, 0.01);
    sides.insert(dy > 0);
  }
  EXPECT_EQ(sides.size(), 2u);
}

TEST(Shift, RefusesWhatMakesNoSense) {
  const Dataset data = rows();
  const auto told = [&](const ShiftSpec& spec) {
    return error_of(ErrorKind::config, [&] { shifted_samples(data, Indices{0}, Indices{1}, spec, 0); });
  };
  for (const char* kind : {"blur", "translate", "rotate"}) EXPECT_THAT(told(shift(kind)), HasSubstr("is for images"));
  EXPECT_THAT(told(shift("contrast", 0)), HasSubstr("must be 1 to 5, not 0"));
  EXPECT_THAT(told(shift("contrast", 6)), HasSubstr("must be 1 to 5, not 6"));
  EXPECT_THAT(told(shift("fog")), HasSubstr("'fog' is not known"));
}

}  // namespace
}  // namespace tenfold

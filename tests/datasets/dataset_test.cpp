#include "datasets/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "datasets/safetensors.h"
#include "tests/datasets/test_files.h"

namespace tenfold {
namespace {

using test::error_of;
using testing::ElementsAre;
using testing::HasSubstr;

Dataset::Parts small_parts() {
  return {{2}, {1, 2, 3, 4, 5, 6}, {0, 1, 0}, {4, 4, 9}, {-1, 0, 1}, {"no", "yes"}, {false, true}};
}

TEST(Dataset, KeepsItsParts) {
  const Dataset data(small_parts());
  EXPECT_EQ(data.size(), 3);
  EXPECT_EQ(data.features(), 2);
  EXPECT_EQ(data.classes(), 2);
  EXPECT_FALSE(data.is_image());
  EXPECT_THAT(data.sample(1), ElementsAre(3, 4));
  const Dataset copy = data;  // shares the samples
  EXPECT_EQ(copy.samples().data(), data.samples().data());
}

TEST(Dataset, RefusesPartsThatDoNotAgree) {
  const auto told = [](auto change) {
    Dataset::Parts parts = small_parts();
    change(parts);
    return error_of(ErrorKind::data, [&] { Dataset{std::move(parts)}; });
  };
  using Parts = Dataset::Parts;
  EXPECT_THAT(told([](Parts& p) { p.samples.pop_back(); }), HasSubstr("5 values are not 3 samples of 2"));
  EXPECT_THAT(told([](Parts& p) { p.labels[1] = 2; }), HasSubstr("sample 1 has label 2, but there are 2 classes"));
  EXPECT_THAT(told([](Parts& p) { p.labels[1] = -1; }), HasSubstr("has label -1"));
  EXPECT_THAT(told([](Parts& p) { p.groups.pop_back(); }), HasSubstr("2 groups for 3 samples"));
  EXPECT_THAT(told([](Parts& p) { p.given_folds.push_back(0); }), HasSubstr("4 given folds"));
  EXPECT_THAT(told([](Parts& p) { p.one_hot.push_back(true); }), HasSubstr("3 entries for 2 features"));
  EXPECT_THAT(told([](Parts& p) { p.sample_shape = {}; }), HasSubstr("no shape"));
  EXPECT_THAT(told([](Parts& p) { p.sample_shape = {1LL << 62, 1LL << 62}; }), HasSubstr("more values"));
  EXPECT_THAT(told([](Parts& p) { p.samples[3] = INFINITY; }),
              HasSubstr("sample 1, feature 1 (both from 0) is infinite"));
  EXPECT_THAT(told([](Parts& p) { p = {{2}, {}, {}, {}, {}, {"a"}, {}}; }), HasSubstr("no samples"));
}

TEST(Dataset, FingerprintDependsOnEveryPart) {
  const Digest fingerprint = Dataset(small_parts()).fingerprint();
  EXPECT_EQ(Dataset(small_parts()).fingerprint(), fingerprint);
  const auto changed = [](auto change) {
    Dataset::Parts parts = small_parts();
    change(parts);
    return Dataset(std::move(parts)).fingerprint();
  };
  using Parts = Dataset::Parts;
  EXPECT_NE(changed([](Parts& p) { p.samples[5] = 6.5f; }), fingerprint);
  EXPECT_NE(changed([](Parts& p) { p.labels[2] = 1; }), fingerprint);
  EXPECT_NE(changed([](Parts& p) { p.groups[2] = 4; }), fingerprint);
  EXPECT_NE(changed([](Parts& p) { p.groups.clear(); }), fingerprint);
  EXPECT_NE(changed([](Parts& p) { p.given_folds[0] = 0; }), fingerprint);
  EXPECT_NE(changed([](Parts& p) { p.one_hot[0] = true; }), fingerprint);
  EXPECT_NE(changed([](Parts& p) { p.class_names[0] = "n"; }), fingerprint);
  EXPECT_NE(changed([](Parts& p) { p.sample_shape = {2, 1}; }), fingerprint);
}

TEST(CachedDataset, ComesBackEqual) {
  const test::TemporaryFolder folder;
  const Dataset data(small_parts());
  const auto file = write_cached_dataset(data, folder / "new/folder");
  EXPECT_EQ(file.filename(), data.fingerprint().hex() + ".safetensors");
  const Dataset read = read_cached_dataset(file);
  EXPECT_EQ(read.fingerprint(), data.fingerprint());
  EXPECT_THAT(read.samples(), testing::ElementsAreArray(data.samples()));
  EXPECT_THAT(read.labels(), testing::ElementsAreArray(data.labels()));
  EXPECT_THAT(read.groups(), testing::ElementsAreArray(data.groups()));
  EXPECT_THAT(read.given_folds(), testing::ElementsAreArray(data.given_folds()));
  EXPECT_EQ(read.class_names(), data.class_names());
  EXPECT_EQ(read.one_hot(), data.one_hot());
  EXPECT_EQ(read.sample_shape(), data.sample_shape());
}

TEST(CachedDataset, ASecondWriteLeavesASoundFileAndReplacesADamagedOne) {
  const test::TemporaryFolder folder;
  const Dataset data(small_parts());
  const auto file = write_cached_dataset(data, folder.path());
  const auto written = std::filesystem::last_write_time(file);
  write_cached_dataset(data, folder.path());
  EXPECT_EQ(std::filesystem::last_write_time(file), written);
  std::string content = test::read_all(file);
  content.back() ^= 1;
  folder.write(file.filename().string(), content);
  EXPECT_THAT(error_of(ErrorKind::data, [&] { read_cached_dataset(file); }), HasSubstr(file.string()));
  write_cached_dataset(data, folder.path());
  EXPECT_EQ(read_cached_dataset(file).fingerprint(), data.fingerprint());
}

TEST(Digits, AreTheUciDigits) {
  DatasetSpec spec;
  spec.kind = "digits";
  const Dataset data = load_dataset(spec);
  EXPECT_EQ(data.size(), 1797);
  EXPECT_EQ(data.sample_shape(), (std::vector<std::int64_t>{1, 8, 8}));
  EXPECT_EQ(data.classes(), 10);
  EXPECT_THAT(data.sample(0).subspan(0, 8), ElementsAre(0, 0, 5, 13, 9, 1, 0, 0));
  std::vector<int> counts(10);
  double sum = 0;
  for (const std::int64_t label : data.labels()) ++counts[static_cast<std::size_t>(label)];
  for (const float x : data.samples()) {
    ASSERT_TRUE(x >= 0 && x <= 16);
    sum += x;
  }
  EXPECT_THAT(counts, ElementsAre(178, 182, 177, 183, 181, 182, 181, 179, 174, 180));
  EXPECT_NEAR(sum / (1797 * 64), 4.884, 5e-4);
}

// Sets TENFOLD_CACHE for one test.
class CacheFolder {
 public:
  explicit CacheFolder(const std::filesystem::path& folder) {
    if (const char* before = std::getenv("TENFOLD_CACHE")) before_ = before;
    ::setenv("TENFOLD_CACHE", folder.c_str(), 1);
  }
  ~CacheFolder() { before_.empty() ? ::unsetenv("TENFOLD_CACHE") : ::setenv("TENFOLD_CACHE", before_.c_str(), 1); }

 private:
  std::string before_;
};

TEST(Digits, NameTheSetUpWhenAbsentOrDamaged) {
  const test::TemporaryFolder folder;
  const CacheFolder cache(folder.path());
  EXPECT_EQ(cache_folder(), folder.path());
  DatasetSpec spec;
  spec.kind = "digits";
  EXPECT_THAT(error_of(ErrorKind::data, [&] { load_dataset(spec); }), HasSubstr("run ./tenfold setup"));
  std::filesystem::create_directories(folder / "data");
  folder.write("data/digits.csv.gz", test::gzipped("1,2,3\n"));
  EXPECT_THAT(error_of(ErrorKind::data, [&] { load_dataset(spec); }), HasSubstr("SHA-256 differs"));
}

TEST(Synthetic, HasTheAskedSeparationAndGroups) {
  DatasetSpec spec;
  spec.kind = "synthetic";
  spec.samples = 30'000;
  spec.features = 6;
  spec.classes = 3;
  spec.separation = 3;
  spec.group_count = 7;
  const Dataset data = load_dataset(spec);
  std::vector<std::vector<double>> means(3, std::vector<double>(6));
  double square = 0;
  for (std::int64_t i = 0; i < data.size(); ++i)
    for (std::size_t f = 0; f < 6; ++f)
      means[static_cast<std::size_t>(data.labels()[static_cast<std::size_t>(i)])][f] += data.sample(i)[f] / 10'000;
  for (std::int64_t i = 0; i < data.size(); ++i)
    for (std::size_t f = 0; f < 6; ++f)
      square += std::pow(
          data.sample(i)[f] - means[static_cast<std::size_t>(data.labels()[static_cast<std::size_t>(i)])][f], 2);
  EXPECT_NEAR(square / (30'000 * 6), 1, 0.02);
  for (std::size_t a = 0; a < 3; ++a)
    for (std::size_t b = 0; b < a; ++b) {
      double distance = 0;
      for (std::size_t f = 0; f < 6; ++f) distance += std::pow(means[a][f] - means[b][f], 2);
      EXPECT_NEAR(std::sqrt(distance), 3, 0.1);
    }
  EXPECT_EQ(*std::max_element(data.groups().begin(), data.groups().end()), 6);
  EXPECT_EQ(load_dataset(spec).fingerprint(), data.fingerprint());
  spec.seed = 1;
  EXPECT_NE(load_dataset(spec).fingerprint(), data.fingerprint());
}

TEST(Synthetic, RefusesWhatCannotBe) {
  const auto told = [](auto change) {
    DatasetSpec spec;
    spec.kind = "synthetic";
    change(spec);
    return error_of(ErrorKind::config, [&] { load_dataset(spec); });
  };
  EXPECT_THAT(told([](DatasetSpec& s) { s.classes = 1; }), HasSubstr("dataset.classes"));
  EXPECT_THAT(told([](DatasetSpec& s) { s.samples = 2; }), HasSubstr("dataset.samples"));
  EXPECT_THAT(told([](DatasetSpec& s) { s.features = 0; }), HasSubstr("dataset.features"));
  EXPECT_THAT(told([](DatasetSpec& s) { s.samples = s.features = 2'000'000'000; }), HasSubstr("must stay within"));
  EXPECT_THAT(told([](DatasetSpec& s) { s.kind = "mnist"; }), HasSubstr("'mnist' is not known"));
}

}  // namespace
}  // namespace tenfold

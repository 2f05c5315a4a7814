#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "datasets/dataset.h"
#include "tests/datasets/test_files.h"

namespace tenfold {
namespace {

using test::error_of;
using test::npy;
using test::raw;
using testing::ElementsAre;
using testing::HasSubstr;

const std::string kLabels = npy("<i8", "(3,)", raw<std::int64_t>({7, -2, 7}));

class ArrayFiles : public testing::Test {
 protected:
  Dataset npy_pair(const std::string& samples, const std::string& labels = kLabels, const std::string& groups = "") {
    DatasetSpec spec;
    spec.kind = "npy";
    spec.path = folder_.write("x.npy", samples);
    spec.labels = folder_.write("y.npy", labels);
    if (!groups.empty()) spec.groups = folder_.write("g.npy", groups);
    return load_dataset(spec);
  }
  std::string npy_error(const std::string& samples, const std::string& labels = kLabels) {
    return error_of(ErrorKind::data, [&] { npy_pair(samples, labels); });
  }
  Dataset npz(const std::string& content, const std::string& groups_key = "") {
    DatasetSpec spec;
    spec.kind = "npz";
    spec.path = folder_.write("d.npz", content);
    spec.groups_key = groups_key;
    return load_dataset(spec);
  }
  Dataset idx_pair(const std::string& samples, const std::string& labels) {
    DatasetSpec spec;
    spec.kind = "idx";
    spec.path = folder_.write("images", samples);
    spec.labels = folder_.write("labels", labels);
    return load_dataset(spec);
  }
  test::TemporaryFolder folder_;
};

TEST_F(ArrayFiles, NpyOfEveryNumberType) {
  const std::vector<float> expected{1, 2, 3, 4, 5, 6};
  const auto samples = [&](const std::string& descr, const std::string& data) {
    const Dataset dataset = npy_pair(npy(descr, "(3, 2)", data));
    return std::vector<float>(dataset.samples().begin(), dataset.samples().end());
  };
  EXPECT_EQ(samples("<f4", raw<float>({1, 2, 3, 4, 5, 6})), expected);
  EXPECT_EQ(samples("<f8", raw<double>({1, 2, 3, 4, 5, 6})), expected);
  EXPECT_EQ(samples("|i1", raw<std::int8_t>({1, 2, 3, 4, 5, 6})), expected);
  EXPECT_EQ(samples("|u1", raw<std::uint8_t>({1, 2, 3, 4, 5, 6})), expected);
  EXPECT_EQ(samples("<i2", raw<std::int16_t>({1, 2, 3, 4, 5, 6})), expected);
  EXPECT_EQ(samples("<u4", raw<std::uint32_t>({1, 2, 3, 4, 5, 6})), expected);
  EXPECT_EQ(samples("<i8", raw<std::int64_t>({1, 2, 3, 4, 5, 6})), expected);
  EXPECT_EQ(samples("<f2", raw<std::uint16_t>({0x3C00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600})), expected);
  EXPECT_EQ(samples(">i2", std::string("\0\1\0\2\0\3\0\4\0\5\0\6", 12)), expected);
  EXPECT_EQ(samples("|b1", std::string("\1\0\1\1\0\0", 6)), (std::vector<float>{1, 0, 1, 1, 0, 0}));
}

TEST_F(ArrayFiles, NpyInFortranOrder) {
  const Dataset rows = npy_pair(npy("<f4", "(3, 2)", raw<float>({1, 3, 5, 2, 4, 6}), true));
  EXPECT_THAT(rows.samples(), ElementsAre(1, 2, 3, 4, 5, 6));
  // (3, 1, 2, 2): element (n, 0, h, w) lies at n + 3 h + 6 w.
  std::vector<float> values(12);
  for (int n = 0; n < 3; ++n)
    for (int h = 0; h < 2; ++h)
      for (int w = 0; w < 2; ++w)
        values[static_cast<std::size_t>(n + 3 * h + 6 * w)] = static_cast<float>(100 * n + 10 * h + w);
  const Dataset images = npy_pair(npy("<f4", "(3, 1, 2, 2)", raw(values), true));
  EXPECT_THAT(images.samples(), ElementsAre(0, 1, 10, 11, 100, 101, 110, 111, 200, 201, 210, 211));
}

TEST_F(ArrayFiles, ShapesOfSamples) {
  const std::string data = raw(std::vector<float>(12, 1.0f));
  const auto shape = [&](const std::string& told) { return npy_pair(npy("<f4", told, data)).sample_shape(); };
  EXPECT_EQ(shape("(3, 4)"), (std::vector<std::int64_t>{4}));
  EXPECT_EQ(shape("(3, 2, 2)"), (std::vector<std::int64_t>{1, 2, 2}));
  EXPECT_EQ(shape("(3, 4, 1, 1)"), (std::vector<std::int64_t>{4, 1, 1}));
  EXPECT_EQ(npy_pair(npy("<f4", "(3,)", raw<float>({1, 2, 3}))).sample_shape(), (std::vector<std::int64_t>{1}));
  EXPECT_THAT(npy_error(npy("<f4", "(3, 1, 2, 2, 1)", data)), HasSubstr("has shape (3, 1, 2, 2, 1) where"));
  EXPECT_THAT(npy_error(npy("<f4", "(3, 0)", "")), HasSubstr("holds no values"));
}

TEST_F(ArrayFiles, LabelsMayBeNumbersOrTexts) {
  const std::string samples = npy("<f4", "(3, 1)", raw<float>({1, 2, 3}));
  EXPECT_THAT(npy_pair(samples).class_names(), ElementsAre("-2", "7"));
  EXPECT_THAT(npy_pair(samples).labels(), ElementsAre(1, 0, 1));
  EXPECT_THAT(npy_pair(samples, npy("<f8", "(3, 1)", raw<double>({0, 1, 2}))).class_names(),
              ElementsAre("0", "1", "2"));
  const std::string wide = raw<std::uint32_t>({'b', 0xE4, 'a', 0, 'b', 0xE4});
  const Dataset texts = npy_pair(samples, npy("<U2", "(3,)", wide));
  EXPECT_THAT(texts.class_names(), ElementsAre("a", "bä"));
  EXPECT_THAT(texts.labels(), ElementsAre(1, 0, 1));
  EXPECT_THAT(npy_pair(samples, npy("|S2", "(3,)", std::string("noyeno", 6))).class_names(), ElementsAre("no", "ye"));
  EXPECT_THAT(npy_pair(samples, kLabels, npy("|u1", "(3,)", "\5\5\1")).groups(), ElementsAre(1, 1, 0));
}

TEST_F(ArrayFiles, NpyRefusals) {
  const std::string good = npy("<f4", "(3, 2)", raw<float>({1, 2, 3, 4, 5, 6}));
  EXPECT_THAT(npy_error("PK"), HasSubstr("x.npy: is not an npy array"));
  EXPECT_THAT(npy_error(npy("|O", "(3,)", "xxxxxxxx")), HasSubstr("Python objects"));
  EXPECT_THAT(npy_error(npy("<c8", "(3,)", std::string(24, 'x'))), HasSubstr("type '<c8'"));
  EXPECT_THAT(npy_error(npy("<f4", "(3, 2)", "short")), HasSubstr("x.npy: "));
  EXPECT_THAT(npy_error(good + "x"), HasSubstr("25 bytes of data where its shape (3, 2) needs 24"));
  EXPECT_THAT(npy_error(npy("<f4", "(4611686018427387904, 4611686018427387904)", "")),
              HasSubstr("asks for more values"));
  EXPECT_THAT(npy_error(npy("<f4", "(-3, 2)", "")), HasSubstr("header is damaged"));
  EXPECT_THAT(npy_error(npy("<f4", "(3, 2", raw<float>({1}))), HasSubstr("header is damaged"));
  EXPECT_THAT(npy_error(good, npy("<i8", "(2,)", raw<std::int64_t>({1, 2}))),
              HasSubstr("y.npy: has 2 values for 3 samples"));
  EXPECT_THAT(npy_error(good, npy("<i8", "(3, 2)", raw<std::int64_t>({1, 2, 3, 4, 5, 6}))),
              HasSubstr("one value a sample"));
  EXPECT_THAT(npy_error(npy("<U1", "(3,)", raw<std::uint32_t>({'a', 'b', 'c'}))), HasSubstr("texts where numbers"));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(npy_error(npy("<f4", "(3, 2)", raw<float>({1, 2, 3, 4, nan, 6}))),
              HasSubstr("x.npy: sample 2, feature 0 (both from 0) is not a number"));
  EXPECT_THAT(npy_error(npy("<f8", "(3, 2)", raw<double>({1, 2, 3, 1e200, 5, 6}))),
              HasSubstr("sample 1, feature 1 (both from 0) is infinite in float32"));
  EXPECT_THAT(npy_error(good, npy("<f4", "(3,)", raw<float>({1, nan, 2}))),
              HasSubstr("sample 1 (from 0) is not finite"));
}

TEST_F(ArrayFiles, NpzStoredDeflatedAndZip64) {
  const std::string samples = npy("<f4", "(3, 2)", raw<float>({1, 2, 3, 4, 5, 6}));
  const Dataset expected = npy_pair(samples);
  for (const bool deflate : {false, true})
    for (const bool zip64 : {false, true})
      EXPECT_EQ(npz(test::zip({{"x.npy", samples, deflate, zip64}, {"y.npy", kLabels, deflate, zip64}})).fingerprint(),
                expected.fingerprint());
  EXPECT_THAT(npz(test::zip({{"x.npy", samples}, {"y.npy", kLabels}, {"who.npy", npy("|u1", "(3,)", "\1\2\1")}}), "who")
                  .groups(),
              ElementsAre(0, 1, 0));
}

TEST_F(ArrayFiles, NpzRefusals) {
  const std::string samples = npy("<f4", "(3, 2)", raw<float>({1, 2, 3, 4, 5, 6}));
  EXPECT_THAT(error_of(ErrorKind::config,
                       [&] {
                         npz(test::zip({{"X.npy", samples}, {"labels.npy", kLabels}}));
                       }),
              HasSubstr("dataset.samples_key:"));
  EXPECT_THAT(error_of(ErrorKind::config,
                       [&] {
                         npz(test::zip({{"X.npy", samples}, {"labels.npy", kLabels}}));
                       }),
              HasSubstr("holds no array 'x'; it has X, labels"));
  EXPECT_THAT(error_of(ErrorKind::data, [&] { npz("no zip at all, but long enough to be one"); }),
              HasSubstr("d.npz: not a sound zip"));
  std::string damaged = test::zip({{"x.npy", samples}, {"y.npy", kLabels}});
  damaged[damaged.find(raw<float>({3}))] ^= 1;
  EXPECT_THAT(error_of(ErrorKind::data, [&] { npz(damaged); }),
              HasSubstr("d.npz: 'x.npy' is damaged: its checksum differs"));
  EXPECT_THAT(error_of(ErrorKind::data,
                       [&] {
                         npz(test::zip({{"x.npy", npy("|O", "(3,)", "")}, {"y.npy", kLabels}}));
                       }),
              HasSubstr("d.npz: 'x': holds Python objects"));
}

TEST_F(ArrayFiles, AZipThatLiesAboutItsSizeIsRefusedBeforeMemoryIsTaken) {
  std::string file = test::zip({{"x.npy", std::string(1000, 'a'), true, true}, {"y.npy", kLabels}});
  // The size in both zip64 extra fields: 2^50 bytes.
  const std::string honest = test::little(1000, 8), lie = test::little(std::uint64_t{1} << 50, 8);
  for (std::size_t at = file.find(honest); at != std::string::npos; at = file.find(honest)) file.replace(at, 8, lie);
  EXPECT_THAT(error_of(ErrorKind::data, [&] { npz(file); }), HasSubstr("claims 1125899906842624 bytes"));
}

TEST_F(ArrayFiles, IdxPlainAndGzip) {
  const std::string images = test::idx(0x08, {2, 2, 3}, std::string("\0\1\2\3\4\5\6\7\10\11\12\377", 12));
  const std::string labels = test::idx(0x08, {2}, "\7\3");
  const Dataset plain = idx_pair(images, labels);
  EXPECT_EQ(plain.sample_shape(), (std::vector<std::int64_t>{1, 2, 3}));
  EXPECT_THAT(plain.samples(), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 255));
  EXPECT_THAT(plain.class_names(), ElementsAre("3", "7"));
  EXPECT_THAT(plain.labels(), ElementsAre(1, 0));
  EXPECT_EQ(idx_pair(test::gzipped(images), test::gzipped(labels)).fingerprint(), plain.fingerprint());
  EXPECT_EQ(idx_pair(test::gzipped(images.substr(0, 7)) + test::gzipped(images.substr(7)), labels).fingerprint(),
            plain.fingerprint());
  EXPECT_THAT(idx_pair(test::idx(0x0B, {2, 1}, std::string("\377\376\1\0", 4)), labels).samples(),
              ElementsAre(-2, 256));
  EXPECT_THAT(idx_pair(test::idx(0x0D, {2, 1}, std::string("\x3F\x80\0\0\xC0\0\0\0", 8)), labels).samples(),
              ElementsAre(1, -2));
}

TEST_F(ArrayFiles, IdxRefusals) {
  const std::string labels = test::idx(0x08, {2}, "\7\3");
  const auto told = [&](const std::string& images) {
    return error_of(ErrorKind::data, [&] { idx_pair(images, labels); });
  };
  EXPECT_THAT(told("\x89PNG"), HasSubstr("images: is not an idx file"));
  EXPECT_THAT(told(test::idx(0x08, {2, 2}, "abc")), HasSubstr("3 bytes of data where its header asks for 4"));
  EXPECT_THAT(told(test::idx(0x08, {2, 1}, "abc")), HasSubstr("3 bytes of data where its header asks for 2"));
  EXPECT_THAT(told(test::idx(0x08, {0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF}, "")), HasSubstr("asks for more values"));
  EXPECT_THAT(told(test::idx(0x99, {2}, "ab")), HasSubstr("unknown type"));
  EXPECT_THAT(told(test::idx(0x08, {3, 1}, "abc")), HasSubstr("has 2 values for 3 samples"));
  const std::string zipped = test::gzipped(test::idx(0x08, {2, 1}, "ab"));
  EXPECT_THAT(told(zipped.substr(0, zipped.size() - 5)), HasSubstr("cut off or damaged"));
  EXPECT_THAT(told(zipped + "junk"), HasSubstr("something follows"));
}

}  // namespace
}  // namespace tenfold

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hdf5.h>

#include <cmath>
#include <functional>
#include <initializer_list>

#include "datasets/dataset.h"
#include "datasets/natural_order.h"
#include "datasets/philox.h"
#include "tests/datasets/test_files.h"

// Where a damaged file asks the library for more memory than there is, it is to be told so, sanitizer or not.
extern "C" const char* __asan_default_options() {
  return "allocator_may_return_null=1";
}  // NOLINT: the sanitizer's name
// That a process of its own breaks is what a test is about.
extern "C" const char* __tsan_default_options() {
  return "allocator_may_return_null=1:handle_segv=0";
}  // NOLINT: the sanitizer's name
// The library loses some bytes of its own over damaged files.
extern "C" const char* __lsan_default_suppressions() { return "leak:libhdf5"; }

namespace tenfold {
namespace {

using test::error_of;
using test::TemporaryFolder;
using testing::ElementsAre;
using testing::HasSubstr;

// The library is first used by these tests: see QuietHdf5.
const bool never_at_exit = H5dont_atexit() >= 0;

// A file made by the library itself. Identifiers are closed with the file.
class Hdf5Writer {
 public:
  explicit Hdf5Writer(const std::filesystem::path& path) {
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    file_ = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access);
    H5Pclose(access);
  }
  ~Hdf5Writer() { H5Fclose(file_); }
  Hdf5Writer(const Hdf5Writer&) = delete;
  Hdf5Writer& operator=(const Hdf5Writer&) = delete;
  hid_t file() const { return file_; }

  hid_t group(const std::string& name) const {
    return H5Gcreate2(file_, name.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  }
  template <class T>
  void numbers(hid_t group, const char* name, std::vector<hsize_t> shape, const std::vector<T>& values, hid_t type,
               hid_t made = H5P_DEFAULT) const {
    const hid_t space =
        shape.empty() ? H5Screate(H5S_SCALAR) : H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr);
    const hid_t set = H5Dcreate2(group, name, type, space, H5P_DEFAULT, made, H5P_DEFAULT);
    ASSERT_GE(set, 0);
    if (!values.empty()) {
      ASSERT_GE(H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0);
    }
    H5Dclose(set);
    H5Sclose(space);
  }
  void text(hid_t group, const char* name, const std::string& value, bool variable) const {
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, variable ? H5T_VARIABLE : value.size() + 1);
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t attribute = H5Acreate2(group, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    const char* pointer = value.c_str();
    H5Awrite(attribute, type, variable ? static_cast<const void*>(&pointer) : pointer);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
  }
  void number(hid_t group, const char* name, std::int64_t value) const {
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t attribute = H5Acreate2(group, name, H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(attribute, H5T_NATIVE_INT64, &value);
    H5Aclose(attribute);
    H5Sclose(space);
  }

 private:
  hid_t file_;
};

// Value of feature f at step t of trial i.
float value_of(std::size_t i, std::size_t t, std::size_t f) {
  return static_cast<float>(100 * i + 10 * t + f) * (f % 2 == 0 ? 1.0f : -1.0f);
}

constexpr std::size_t kSteps[] = {3, 2, 4};
constexpr std::size_t kFeatures = 5;

void write_trial(const Hdf5Writer& writer, std::size_t i, const std::vector<std::int32_t>& labels,
                 std::vector<hsize_t> label_shape, hid_t made = H5P_DEFAULT) {
  const hid_t group = writer.group("trial_" + std::to_string(9 + i));  // trial_9, trial_10, trial_11
  std::vector<float> values;
  for (std::size_t t = 0; t < kSteps[i]; ++t)
    for (std::size_t f = 0; f < kFeatures; ++f) values.push_back(value_of(i, t, f));
  writer.numbers(group, "input_features", {kSteps[i], kFeatures}, values, H5T_NATIVE_FLOAT, made);
  writer.numbers(group, "seq_class_ids", std::move(label_shape), labels, H5T_NATIVE_INT32);
  writer.text(group, "session", i == 0 ? "t15.2023.08.11" : "t15.2023.08.13", i != 1);
}

class Hdf5 : public testing::Test {
 protected:
  DatasetSpec spec() {
    DatasetSpec made;
    made.kind = "hdf5";
    made.path = (folder_ / "x.hdf5").string();
    return made;
  }
  void write_steps() {
    const Hdf5Writer writer(folder_ / "x.hdf5");
    write_trial(writer, 0, {7, 7, 3}, {3});
    write_trial(writer, 1, {3, 9}, {2});
    write_trial(writer, 2, {9, 9, -1, 3}, {4});
  }
  std::string told(DatasetSpec with) {
    return error_of(ErrorKind::data, [&] { load_dataset(with); });
  }
  std::string told() { return told(spec()); }
  TemporaryFolder folder_;
};

TEST_F(Hdf5, LeavesNothingToTheEndOfTheProgram) { EXPECT_TRUE(never_at_exit); }

TEST_F(Hdf5, TrialsInNaturalOrderWithLabelsOfStepsAndSessions) {
  write_steps();
  const Dataset data = load_dataset(spec());
  EXPECT_EQ(data.kind(), SampleKind::sequence);
  EXPECT_EQ(data.label_kind(), LabelKind::step);
  EXPECT_EQ(data.size(), 3);
  EXPECT_THAT(data.lengths(), ElementsAre(3, 2, 4));
  EXPECT_THAT(data.class_names(), ElementsAre("3", "7", "9"));
  EXPECT_THAT(data.labels(), ElementsAre(1, 1, 0, 0, 2, 2, 2, -1, 0));
  EXPECT_THAT(data.groups(), ElementsAre(0, 1, 1));
  EXPECT_THAT(data.group_names(), ElementsAre("t15.2023.08.11", "t15.2023.08.13"));
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t t = 0; t < kSteps[i]; ++t)
      for (std::size_t f = 0; f < kFeatures; ++f)
        EXPECT_EQ(data.sample(static_cast<std::int64_t>(i))[t * kFeatures + f], value_of(i, t, f));
}

TEST_F(Hdf5, OneValueIsTheLabelOfTheSequence) {
  {
    const Hdf5Writer writer(folder_ / "x.hdf5");
    write_trial(writer, 0, {4}, {});
    write_trial(writer, 1, {2}, {1});
    write_trial(writer, 2, {4}, {1, 1});
  }
  const Dataset data = load_dataset(spec());
  EXPECT_EQ(data.label_kind(), LabelKind::sample);
  EXPECT_THAT(data.labels(), ElementsAre(1, 0, 1));
  EXPECT_THAT(data.class_names(), ElementsAre("2", "4"));
}

TEST_F(Hdf5, PaddedLabelsCountAsFarAsToldAndAsTheStepsGo) {
  {
    const Hdf5Writer writer(folder_ / "x.hdf5");
    write_trial(writer, 0, {5, 6, 0, 0, 0, 0}, {6});  // longer than the trial; two of them count
    write_trial(writer, 1, {6, 5, 0, 0, 0, 0}, {6});  // all that fit count
    write_trial(writer, 2, {5, 5}, {2});              // shorter
    const hid_t first = H5Gopen2(writer.file(), "trial_9", H5P_DEFAULT);
    writer.number(first, "seq_len", 2);
  }
  const Dataset data = load_dataset(spec());
  EXPECT_THAT(data.class_names(), ElementsAre("5", "6"));  // padding makes no class
  EXPECT_THAT(data.labels(), ElementsAre(0, 1, -1, 1, 0, 0, 0, -1, -1));
}

TEST_F(Hdf5, SelectsColumnsCutsAndTransforms) {
  write_steps();
  auto wanted = spec();
  wanted.feature_ranges = {"3:5", "0:1"};
  wanted.max_length = 2;
  wanted.transform = "log1p";
  wanted.session_attribute = "";
  const Dataset data = load_dataset(wanted);
  EXPECT_THAT(data.lengths(), ElementsAre(2, 2, 2));
  EXPECT_EQ(data.features(), 3);
  EXPECT_TRUE(data.groups().empty());
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t t = 0; t < 2; ++t)
      for (std::size_t c = 0; c < 3; ++c) {
        const float x = value_of(i, t, std::vector<std::size_t>{3, 4, 0}[c]);
        EXPECT_NEAR(data.sample(static_cast<std::int64_t>(i))[3 * t + c], std::copysign(std::log1p(std::abs(x)), x),
                    1e-6);
      }
  EXPECT_THAT(data.labels(), ElementsAre(1, 1, 0, 2, 2, 2));
}

TEST_F(Hdf5, EveryTypeOfNumbersPackedOrNot) {
  {
    const Hdf5Writer writer(folder_ / "x.hdf5");
    const hid_t packed = H5Pcreate(H5P_DATASET_CREATE);
    const hsize_t chunk[] = {2, 2};
    H5Pset_chunk(packed, 2, chunk);
    H5Pset_deflate(packed, 6);
    const auto put = [&]<class T>(const char* name, hid_t type, const std::vector<T>& values) {
      const hid_t group = writer.group(name);
      writer.numbers(group, "input_features", {2, 3}, values, type, packed);
      writer.numbers(group, "seq_class_ids", {}, std::vector<double>{name[0] == 'a' ? 0.5 : 1.0}, H5T_NATIVE_DOUBLE);
    };
    put("a", H5T_NATIVE_DOUBLE, std::vector<double>{1, 2, 3, 4, 5, 6.5});
    put("b", H5T_NATIVE_INT16, std::vector<std::int16_t>{-1, 2, 3, 4, 5, 6});
    put("c", H5T_NATIVE_UINT8, std::vector<std::uint8_t>{255, 2, 3, 4, 5, 6});
    H5Pclose(packed);
  }
  const Dataset data = load_dataset(spec());
  EXPECT_THAT(data.sample(0), ElementsAre(1, 2, 3, 4, 5, 6.5));
  EXPECT_THAT(data.sample(1), ElementsAre(-1, 2, 3, 4, 5, 6));
  EXPECT_THAT(data.sample(2), ElementsAre(255, 2, 3, 4, 5, 6));
  EXPECT_THAT(data.class_names(), ElementsAre("0.5", "1"));
}

TEST_F(Hdf5, SaysWhichTrialIsWrong) {
  const auto broken = [&](const std::function<void(const Hdf5Writer&, hid_t group)>& fill) {
    {
      const Hdf5Writer writer(folder_ / "x.hdf5");
      write_trial(writer, 0, {4, 4, 5}, {3});
      const hid_t group = writer.group("trial_77");
      fill(writer, group);
      if (H5Aexists(group, "session") == 0) writer.text(group, "session", "monday", true);
    }
    const std::string message = told();
    EXPECT_THAT(message, HasSubstr("trial_77")) << message;
    EXPECT_THAT(message, HasSubstr("x.hdf5")) << message;
    return message;
  };
  const std::vector<float> six(6, 1.0f);
  const auto labels = [](const Hdf5Writer& w, hid_t g) {
    w.numbers(g, "seq_class_ids", {1}, std::vector<int>{4}, H5T_NATIVE_INT);
  };
  EXPECT_THAT(broken([&](auto& w, hid_t g) { labels(w, g); }), HasSubstr("dataset.features_key"));
  EXPECT_THAT(broken([&](auto& w, hid_t g) {
                w.numbers(g, "input_features", {1, 5}, std::vector<float>(5), H5T_NATIVE_FLOAT);
              }),
              HasSubstr("dataset.targets_key"));
  EXPECT_THAT(broken([&](auto& w, hid_t g) {
                labels(w, g);
                w.numbers(g, "input_features", {6}, six, H5T_NATIVE_FLOAT);
              }),
              HasSubstr("1 dimensions"));
  EXPECT_THAT(broken([&](auto& w, hid_t g) {
                labels(w, g);
                w.numbers(g, "input_features", {2, 3}, six, H5T_NATIVE_FLOAT);
              }),
              HasSubstr("3 features where trial trial_9 has 5"));
  EXPECT_THAT(broken([&](auto& w, hid_t g) {
                labels(w, g);
                w.numbers(g, "input_features", {0, 5}, std::vector<float>{}, H5T_NATIVE_FLOAT);
              }),
              HasSubstr("empty"));
  EXPECT_THAT(broken([&](auto& w, hid_t g) {
                labels(w, g);
                w.numbers(g, "input_features", {1, 5}, std::vector<float>{1, 2, NAN, 4, 5}, H5T_NATIVE_FLOAT);
              }),
              HasSubstr("step 0, selected feature 2"));
  EXPECT_THAT(broken([&](auto& w, hid_t g) {
                labels(w, g);
                w.numbers(g, "input_features", {1, 5}, std::vector<double>{1, 2, 3, 1e300, 5}, H5T_NATIVE_DOUBLE);
              }),
              HasSubstr("infinite"));
  EXPECT_THAT(broken([&](auto& w, hid_t g) {
                w.numbers(g, "input_features", {1, 5}, std::vector<float>(5), H5T_NATIVE_FLOAT);
                w.numbers(g, "seq_class_ids", {0}, std::vector<int>{}, H5T_NATIVE_INT);
              }),
              HasSubstr("no label"));
  EXPECT_THAT(broken([&](auto& w, hid_t g) {
                w.numbers(g, "input_features", {1, 5}, std::vector<float>(5), H5T_NATIVE_FLOAT);
                w.numbers(g, "seq_class_ids", {2, 3}, std::vector<int>(6), H5T_NATIVE_INT);
              }),
              HasSubstr("more than one dimension"));
  EXPECT_THAT(broken([&](auto& w, hid_t g) {
                labels(w, g);
                w.group("trial_77/input_features");
              }),
              HasSubstr("not a dataset"));
  EXPECT_THAT(broken([&](auto& w, hid_t g) {
                w.numbers(g, "input_features", {1, 5}, std::vector<float>(5), H5T_NATIVE_FLOAT);
                w.numbers(g, "seq_class_ids", {2}, std::vector<int>{4, 5}, H5T_NATIVE_INT);
                w.number(g, "seq_len", -1);
              }),
              HasSubstr("seq_len"));
  EXPECT_THAT(broken([&](auto& w, hid_t g) {
                labels(w, g);
                const hid_t made = H5Pcreate(H5P_DATASET_CREATE);
                const hsize_t chunk[] = {1 << 20, 5}, shape[] = {1, 5}, most[] = {H5S_UNLIMITED, 5};
                H5Pset_chunk(made, 2, chunk);
                const hid_t space = H5Screate_simple(2, shape, most);
                H5Dcreate2(g, "input_features", H5T_NATIVE_FLOAT, space, H5P_DEFAULT, made, H5P_DEFAULT);
              }),
              HasSubstr("chunks that are far larger than what is stored"));
}

TEST_F(Hdf5, WhatLiesElsewhereIsRefused) {
  const auto with = [&](const std::function<void(const Hdf5Writer&, hid_t group)>& fill) {
    {
      const Hdf5Writer writer(folder_ / "x.hdf5");
      write_trial(writer, 0, {4, 4, 5}, {3});
      fill(writer, H5Gopen2(writer.file(), "trial_9", H5P_DEFAULT));
    }
    return told();
  };
  EXPECT_THAT(with([&](auto&, hid_t g) {
                H5Lcreate_external("/etc/other.hdf5", "/a", g, "elsewhere", H5P_DEFAULT, H5P_DEFAULT);
              }),
              testing::AllOf(HasSubstr("trial_9/elsewhere"), HasSubstr("a link to another file")));
  EXPECT_THAT(with([&](auto& w, hid_t) { H5Lcreate_soft("/trial_9", w.file(), "again", H5P_DEFAULT, H5P_DEFAULT); }),
              HasSubstr("soft link"));
  const hsize_t shape[] = {3, 5};
  EXPECT_THAT(with([&](auto&, hid_t g) {
                const hid_t made = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(2, shape, nullptr);
                H5Pset_external(made, (folder_ / "raw").c_str(), 0, 60);
                H5Dcreate2(g, "outside", H5T_NATIVE_FLOAT, space, H5P_DEFAULT, made, H5P_DEFAULT);
              }),
              HasSubstr("whose values lie in another file"));
  EXPECT_THAT(with([&](auto&, hid_t g) {
                const hid_t made = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(2, shape, nullptr);
                H5Pset_virtual(made, space, "/etc/other.hdf5", "/a", space);
                H5Dcreate2(g, "virtual", H5T_NATIVE_FLOAT, space, H5P_DEFAULT, made, H5P_DEFAULT);
              }),
              HasSubstr("virtual"));
  EXPECT_THAT(with([&](auto&, hid_t g) {
                const hid_t made = H5Pcreate(H5P_DATASET_CREATE);
                const hsize_t huge[] = {hsize_t{1} << 40, 5}, chunk[] = {1024, 5};
                const hid_t space = H5Screate_simple(2, huge, nullptr);
                H5Pset_chunk(made, 2, chunk);
                H5Dcreate2(g, "huge", H5T_NATIVE_FLOAT, space, H5P_DEFAULT, made, H5P_DEFAULT);
              }),
              testing::AllOf(HasSubstr("huge"), HasSubstr("more values than are stored")));
}

TEST_F(Hdf5, FilesThatAreNoneAreTold) {
  EXPECT_THAT(told(), HasSubstr("no such file"));
  folder_.write("x.hdf5", "not one");
  EXPECT_THAT(told(), HasSubstr("not an HDF5 file"));
  auto wanted = spec();
  wanted.path = folder_.path().string();
  EXPECT_THAT(told(wanted), HasSubstr("folder"));
  { const Hdf5Writer writer(folder_ / "x.hdf5"); }
  EXPECT_THAT(told(), HasSubstr("no groups"));
  write_steps();
  wanted = spec();
  wanted.feature_ranges = {"3:6"};
  EXPECT_THAT(error_of(ErrorKind::config, [&] { load_dataset(wanted); }), HasSubstr("'3:6' ends after the 5 features"));
  wanted.feature_ranges = {"0:3", "2:4"};
  EXPECT_THAT(error_of(ErrorKind::config, [&] { load_dataset(wanted); }), HasSubstr("another range"));
  for (const char* text : {"3", "a:b", "3:3", "4:2", "-1:2", "1:2:3", "", ":4"}) {
    wanted.feature_ranges = {text};
    EXPECT_THAT(error_of(ErrorKind::config, [&] { load_dataset(wanted); }), HasSubstr("first:end")) << text;
  }
}

// Cut off and changed files are refused or read, and nothing is printed.
TEST_F(Hdf5, DamagedFilesEndInAnErrorOrADataset) {
  write_steps();
  const std::string sound = test::read_all(folder_ / "x.hdf5");
  testing::internal::CaptureStderr();
  int refused = 0;
  const auto attempt = [&](const std::string& content) {
    folder_.write("x.hdf5", content);
    try {
      load_dataset(spec());
    } catch (const Error& error) {
      ++refused;
      EXPECT_TRUE(error.kind() == ErrorKind::data || error.kind() == ErrorKind::config) << error.what();
      EXPECT_THAT(std::string(error.what()), HasSubstr("x.hdf5"));
    }
  };
  for (std::size_t length = 0; length < sound.size(); length += 97) attempt(sound.substr(0, length));
  EXPECT_GT(refused, 20);
  const RandomStream stream(0, Purpose::query, 0, 0, 5);
  for (std::uint64_t i = 0; i < 400; ++i) {
    std::string content = sound;
    content[static_cast<std::size_t>(random_below(stream, 2 * i, content.size()))] =
        static_cast<char>(random_below(stream, 2 * i + 1, 256));
    attempt(content);
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(NaturalOrder, CountsAsPeopleDo) {
  std::vector<std::string> names = {"t10", "t9", "t009", "a", "t1_2", "t1_10", "t", "10", "9", ""};
  std::sort(names.begin(), names.end(), natural_less);
  EXPECT_THAT(names, ElementsAre("", "9", "10", "a", "t", "t1_2", "t1_10", "t009", "t9", "t10"));
}

}  // namespace
}  // namespace tenfold

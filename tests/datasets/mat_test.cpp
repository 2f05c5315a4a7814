#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <matio.h>

#include <numeric>

#include "datasets/dataset.h"
#include "datasets/philox.h"
#include "tests/datasets/test_files.h"

namespace tenfold {
namespace {

using test::error_of;
using test::TemporaryFolder;
using testing::ElementsAre;
using testing::HasSubstr;

// Owned by the caller or by what it is put into. Values as MATLAB has them: the first dimension fastest.
matvar_t* numbers(const char* name, std::vector<std::size_t> shape, std::vector<double> values) {
  return Mat_VarCreate(name, MAT_C_DOUBLE, MAT_T_DOUBLE, static_cast<int>(shape.size()), shape.data(), values.data(),
                       0);
}
matvar_t* text(const char* name, std::string value) {
  std::size_t shape[] = {1, value.size()};
  return Mat_VarCreate(name, MAT_C_CHAR, MAT_T_UINT8, 2, shape, value.data(), 0);
}
matvar_t* cells(const char* name, const std::vector<matvar_t*>& of) {
  std::size_t shape[] = {1, of.size()};
  matvar_t* const made = Mat_VarCreate(name, MAT_C_CELL, MAT_T_CELL, 2, shape, nullptr, 0);
  for (std::size_t i = 0; i < of.size(); ++i) Mat_VarSetCell(made, static_cast<int>(i), of[i]);
  return made;
}

constexpr std::size_t kSteps[] = {3, 2};

// (T, 4) of a trial: 100 i + 10 t + f.
std::vector<double> values_of(std::size_t i) {
  std::vector<double> values;
  for (std::size_t f = 0; f < 4; ++f)
    for (std::size_t t = 0; t < kSteps[i]; ++t) values.push_back(static_cast<double>(100 * i + 10 * t + f));
  return values;
}

class Mat : public testing::Test {
 protected:
  void write(mat_ft version, const std::vector<matvar_t*>& variables, matio_compression packed = MAT_COMPRESSION_NONE) {
    std::filesystem::remove(folder_ / "x.mat");
    mat_t* const file = Mat_CreateVer((folder_ / "x.mat").c_str(), nullptr, version);
    ASSERT_NE(file, nullptr);
    for (matvar_t* variable : variables) {
      ASSERT_EQ(Mat_VarWrite(file, variable, packed), 0);
      Mat_VarFree(variable);
    }
    Mat_Close(file);
  }
  std::vector<matvar_t*> as_cells() {
    return {cells("input_features", {numbers(nullptr, {3, 4}, values_of(0)), numbers(nullptr, {2, 4}, values_of(1))}),
            cells("seq_class_ids", {numbers(nullptr, {3, 1}, {2, 2, 5}), numbers(nullptr, {1, 2}, {5, 5})}),
            cells("session", {text(nullptr, "tuesday"), text(nullptr, "monday")})};
  }
  DatasetSpec spec() {
    DatasetSpec made;
    made.kind = "mat";
    made.path = (folder_ / "x.mat").string();
    return made;
  }
  void expect_trials(const Dataset& data) {
    EXPECT_THAT(data.lengths(), ElementsAre(3, 2));
    EXPECT_THAT(data.sample(0), ElementsAre(0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23));
    EXPECT_THAT(data.sample(1), ElementsAre(100, 101, 102, 103, 110, 111, 112, 113));
    EXPECT_EQ(data.label_kind(), LabelKind::step);
    EXPECT_THAT(data.labels(), ElementsAre(0, 0, 1, 1, 1));
    EXPECT_THAT(data.class_names(), ElementsAre("2", "5"));
    EXPECT_EQ(data.group_names().size(), 2u);
    EXPECT_THAT(data.groups(), ElementsAre(1, 0));
  }
  std::string told() {
    return error_of(ErrorKind::data, [&] { load_dataset(spec()); });
  }
  TemporaryFolder folder_;
};

TEST_F(Mat, CellsOfTrialsInEveryVersionThatHasThem) {
  for (const mat_ft version : {MAT_FT_MAT5, MAT_FT_MAT73})
    for (const matio_compression packed : {MAT_COMPRESSION_NONE, MAT_COMPRESSION_ZLIB}) {
      auto variables = as_cells();
      if (packed == MAT_COMPRESSION_ZLIB) {  // matio 1.5.23 writes packed cells of texts with sizes that are not theirs
        Mat_VarFree(variables.back());
        variables.back() = cells("session", {numbers(nullptr, {1, 1}, {30}), numbers(nullptr, {1, 1}, {4})});
      }
      write(version, variables, packed);
      const Dataset data = load_dataset(spec());
      expect_trials(data);
      EXPECT_EQ(data.group_names()[0], packed == MAT_COMPRESSION_ZLIB ? "4" : "monday");
    }
}

TEST_F(Mat, FieldsOfAStructArray) {
  for (const mat_ft version : {MAT_FT_MAT5, MAT_FT_MAT73}) {
    const char* fields[] = {"input_features", "seq_class_ids", "session", nullptr};
    const std::size_t shape[] = {2, 1};
    matvar_t* const trials = Mat_VarCreateStruct2("trials", 2, shape, fields);
    for (std::size_t i = 0; i < 2; ++i) {
      Mat_VarSetStructFieldByName(trials, fields[0], i, numbers(nullptr, {kSteps[i], 4}, values_of(i)));
      Mat_VarSetStructFieldByName(trials, fields[1], i,
                                  i == 0 ? numbers(nullptr, {3, 1}, {2, 2, 5}) : numbers(nullptr, {2, 1}, {5, 5}));
      Mat_VarSetStructFieldByName(trials, fields[2], i, text(nullptr, i == 0 ? "tuesday" : "monday"));
    }
    write(version, {numbers("other", {1, 1}, {1}), trials});
    expect_trials(load_dataset(spec()));
  }
}

// (steps, features, trials): what versions before cell arrays had was one matrix, a single trial.
TEST_F(Mat, OneArrayOfAllTrials) {
  std::vector<double> values(2 * 3 * 4);
  std::iota(values.begin(), values.end(), 0.0);
  for (const mat_ft version : {MAT_FT_MAT5, MAT_FT_MAT73}) {
    write(version, {numbers("input_features", {2, 3, 4}, values), numbers("seq_class_ids", {1, 4}, {7, 8, 7, 8}),
                    numbers("session", {4, 1}, {10, 9, 10, 10})});
    const Dataset data = load_dataset(spec());
    EXPECT_EQ(data.size(), 4);
    EXPECT_THAT(data.sample(1), ElementsAre(6, 8, 10, 7, 9, 11));
    EXPECT_EQ(data.label_kind(), LabelKind::sample);
    EXPECT_THAT(data.labels(), ElementsAre(0, 1, 0, 1));
    EXPECT_THAT(data.group_names(), ElementsAre("9", "10"));
    EXPECT_THAT(data.groups(), ElementsAre(1, 0, 1, 1));

    write(version, {numbers("input_features", {2, 3, 4}, values),
                    numbers("seq_class_ids", {2, 4}, {7, 8, 7, 7, 8, 8, -1, 8}), text("session", "only")});
    const Dataset steps = load_dataset(spec());
    EXPECT_THAT(steps.labels(), ElementsAre(0, 1, 0, 0, 1, 1, -1, 1));
    EXPECT_THAT(steps.groups(), ElementsAre(0, 0, 0, 0));
  }
  write(MAT_FT_MAT4, {numbers("input_features", {3, 4}, values_of(0)), numbers("seq_class_ids", {1, 3}, {1, 1, 2})});
  const Dataset old = load_dataset(spec());
  EXPECT_EQ(old.size(), 1);
  EXPECT_THAT(old.labels(), ElementsAre(0, 0, 1));
  EXPECT_THAT(old.sample(0), ElementsAre(0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23));
}

TEST_F(Mat, SelectsColumnsAndCuts) {
  write(MAT_FT_MAT5, as_cells());
  auto wanted = spec();
  wanted.feature_ranges = {"2:4"};
  wanted.max_length = 2;
  const Dataset data = load_dataset(wanted);
  EXPECT_THAT(data.sample(0), ElementsAre(2, 3, 12, 13));
  EXPECT_THAT(data.sample(1), ElementsAre(102, 103, 112, 113));
  EXPECT_EQ(data.labels().size(), 4u);
}

TEST_F(Mat, SaysWhatIsWrong) {
  const auto wrong = [&](const std::vector<matvar_t*>& variables) {
    write(MAT_FT_MAT5, variables);
    const std::string message = told();
    EXPECT_THAT(message, HasSubstr("x.mat"));
    return message;
  };
  const auto features = [](std::size_t i) { return numbers(nullptr, {kSteps[i], 4}, values_of(i)); };
  EXPECT_THAT(wrong({numbers("a", {1, 1}, {1})}),
              testing::AllOf(HasSubstr("'input_features'"), HasSubstr("dataset.features_key"), HasSubstr("has a")));
  EXPECT_THAT(wrong({cells("input_features", {features(0)})}), HasSubstr("dataset.targets_key"));
  EXPECT_THAT(wrong({cells("input_features", {features(0), features(1)}), cells("seq_class_ids", {features(0)})}),
              HasSubstr("holds 1 trials where the features hold 2"));
  EXPECT_THAT(
      wrong({cells("input_features", {features(0), text(nullptr, "no")}), numbers("seq_class_ids", {2, 1}, {1, 2})}),
      HasSubstr("trial 2"));
  EXPECT_THAT(wrong({cells("input_features", {features(0), numbers(nullptr, {0, 4}, {})}),
                     numbers("seq_class_ids", {2, 1}, {1, 2})}),
              HasSubstr("trial 2: is empty"));
  EXPECT_THAT(wrong({cells("input_features", {features(0), numbers(nullptr, {1, 4}, {1, NAN, 3, 4})}),
                     numbers("seq_class_ids", {2, 1}, {1, 2})}),
              HasSubstr("trial 2: step 0, selected feature 1"));
  EXPECT_THAT(wrong({cells("input_features", {features(0), features(1)}), numbers("seq_class_ids", {3, 1}, {1, 2, 3})}),
              HasSubstr("a value a trial"));
  folder_.write("x.mat", "MATLAB 5.0 MAT-file, or not");
  EXPECT_THAT(told(), HasSubstr("x.mat"));
  std::filesystem::remove(folder_ / "x.mat");
  EXPECT_THAT(told(), HasSubstr("x.mat: cannot be read"));
}

TEST_F(Mat, DamagedFilesEndInAnErrorOrADataset) {
  for (const mat_ft version : {MAT_FT_MAT5, MAT_FT_MAT73}) {
    write(version, as_cells(), MAT_COMPRESSION_ZLIB);
    const std::string sound = test::read_all(folder_ / "x.mat");
    testing::internal::CaptureStderr();
    int refused = 0;
    const auto attempt = [&](const std::string& content) {
      folder_.write("x.mat", content);
      try {
        load_dataset(spec());
      } catch (const Error& error) {
        ++refused;
        EXPECT_TRUE(error.kind() == ErrorKind::data || error.kind() == ErrorKind::config) << error.what();
      }
    };
    const std::size_t step = std::max<std::size_t>(1, sound.size() / 100);
    for (std::size_t length = 0; length < sound.size(); length += step) attempt(sound.substr(0, length));
    EXPECT_GT(refused, 20);
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  }
}

}  // namespace
}  // namespace tenfold

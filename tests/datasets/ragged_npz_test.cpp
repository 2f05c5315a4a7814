#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "datasets/dataset.h"
#include "tests/datasets/test_files.h"

namespace tenfold {
namespace {

using test::error_of;
using test::npy;
using test::raw;
using test::TemporaryFolder;
using testing::ElementsAre;
using testing::HasSubstr;

class RaggedNpz : public testing::Test {
 protected:
  // Five rows of two features; 3 and 2 belong together.
  std::vector<test::ZipMember> members() {
    return {{"x.npy", npy("<f8", "(5, 2)", raw<double>({1, 2, 3, 4, 5, 6, 7, 8, 9, 10})), true},
            {"offsets.npy", npy("<i8", "(3,)", raw<std::int64_t>({0, 3, 5}))},
            {"y.npy", npy("<i4", "(5,)", raw<std::int32_t>({6, 6, 4, -1, 4}))},
            {"who.npy", npy("|S2", "(2,)", "boan")}};
  }
  DatasetSpec spec(const std::vector<test::ZipMember>& of) {
    DatasetSpec made;
    made.kind = "npz";
    made.path = folder_.write("x.npz", test::zip(of));
    made.offsets_key = "offsets";
    made.groups_key = "who";
    return made;
  }
  std::string told(std::size_t member, const std::string& content) {
    auto changed = members();
    changed[member].content = content;
    const DatasetSpec made = spec(changed);
    return error_of(ErrorKind::data, [&] { load_dataset(made); });
  }
  TemporaryFolder folder_;
};

TEST_F(RaggedNpz, SequencesWithLabelsOfSteps) {
  const Dataset data = load_dataset(spec(members()));
  EXPECT_EQ(data.kind(), SampleKind::sequence);
  EXPECT_THAT(data.lengths(), ElementsAre(3, 2));
  EXPECT_THAT(data.sample(1), ElementsAre(7, 8, 9, 10));
  EXPECT_EQ(data.label_kind(), LabelKind::step);
  EXPECT_THAT(data.class_names(), ElementsAre("4", "6"));
  EXPECT_THAT(data.labels(), ElementsAre(1, 1, 0, -1, 0));
  EXPECT_THAT(data.group_names(), ElementsAre("an", "bo"));
  EXPECT_THAT(data.groups(), ElementsAre(1, 0));
}

TEST_F(RaggedNpz, SequencesWithALabelEachCutSelectedAndTransformed) {
  auto changed = members();
  changed[0].content = npy("<f4", "(5, 2)", raw<float>({1, 3, 5, 7, 9, 2, 4, 6, 8, 10}), true);  // columns first
  changed[2].content = npy("<U1", "(2,)", raw<std::uint32_t>({'b', 'a'}));
  auto made = spec(changed);
  made.max_length = 2;
  made.feature_ranges = {"1:2"};
  made.transform = "log1p";
  const Dataset data = load_dataset(made);
  EXPECT_EQ(data.label_kind(), LabelKind::sample);
  EXPECT_THAT(data.labels(), ElementsAre(1, 0));
  EXPECT_THAT(data.lengths(), ElementsAre(2, 2));
  EXPECT_THAT(data.samples(), testing::Pointwise(testing::FloatNear(1e-6f),
                                                 {std::log(3.0f), std::log(5.0f), std::log(9.0f), std::log(11.0f)}));
}

TEST_F(RaggedNpz, SaysWhatIsWrong) {
  EXPECT_THAT(told(1, npy("<i8", "(3,)", raw<std::int64_t>({0, 3, 4}))), HasSubstr("ends at row 4 of 5"));
  EXPECT_THAT(told(1, npy("<i8", "(3,)", raw<std::int64_t>({0, 3, 6}))), HasSubstr("entry 2"));
  EXPECT_THAT(told(1, npy("<i8", "(4,)", raw<std::int64_t>({0, 3, 3, 5}))), HasSubstr("no sequence is empty"));
  EXPECT_THAT(told(1, npy("<i8", "(3,)", raw<std::int64_t>({1, 3, 5}))), HasSubstr("entry 0"));
  EXPECT_THAT(told(1, npy("<f8", "(3,)", raw<double>({0, NAN, 5}))), HasSubstr("entry 1"));
  EXPECT_THAT(told(1, npy("<i8", "(1,)", raw<std::int64_t>({0}))), HasSubstr("(N + 1)"));
  EXPECT_THAT(told(2, npy("<i4", "(4,)", raw<std::int32_t>({6, 6, 4, 4}))), HasSubstr("4 values for 5"));
  EXPECT_THAT(told(0, npy("<f8", "(5, 1, 2)", raw<double>({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}))),
              HasSubstr("(steps, features)"));
  EXPECT_THAT(told(0, npy("<f8", "(5, 2)", raw<double>({1, 2, 3, 4, 5, 6, 7, NAN, 9, 10}))), HasSubstr("sequence 1"));
}

}  // namespace
}  // namespace tenfold

// Checkpoints that are damaged, of another array, or in part: refused with the file's name.
#include "trainer/checkpoint.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>

#include "experiments/error.h"
#include "tests/trainer/array_harness.h"
#include "tests/trainer/tensors.h"

namespace tenfold::testing {
namespace {

class Checkpoint : public ::testing::Test {
 protected:
  Checkpoint() {
    job.checkpoint_folder = space.folder().string();
    job.array = "a";
    tensors = {{"w", normal({3, 2, 4}, 1)}, {"applied", normal({3}, 2)}, {"best", normal({3, 7}, 3).to(at::kDouble)}};
    notice = write_checkpoint(job, 12, tensors);
    ref = {notice.path, 1, 12, notice.sha256};
  }
  void expect_refused(const std::function<void()>& action, const std::string& part) {
    try {
      action();
      ADD_FAILURE() << "accepted; expected: " << part;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::data) << error.what();
      EXPECT_NE(std::string(error.what()).find(notice.path), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }

  Workspace space;
  ArrayJob job;
  StackedTensors tensors;
  CheckpointNotice notice;
  CheckpointRef ref;
};

TEST_F(Checkpoint, GivesBackEachMembersBits) {
  EXPECT_EQ(notice.members, (std::vector<std::int32_t>{0, 1, 2}));
  CheckpointReader reader;
  for (ref.array_index = 0; ref.array_index < 3; ++ref.array_index) {
    const MemberTensors member = reader.read(ref);
    at::Tensor into = at::zeros({2, 2, 4});
    restore(member, "w", into, 1);
    EXPECT_TRUE(at::equal(into[1], tensors.at("w")[ref.array_index]));
    EXPECT_EQ(into[0].abs().max().item<float>(), 0.0f);
    EXPECT_TRUE(at::equal(member.tensors.at("best")[0], tensors.at("best")[ref.array_index]));
  }
}

TEST_F(Checkpoint, RefusesADamagedFile) {
  {
    std::fstream file(notice.path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(-1, std::ios::end);
    const char last = static_cast<char>(file.get());
    file.seekp(-1, std::ios::end);
    file.put(static_cast<char>(last ^ 1));  // one bit
  }
  expect_refused([&] { CheckpointReader().read(ref); }, "damaged");
  std::filesystem::resize_file(notice.path, 40);
  expect_refused([&] { CheckpointReader().read(ref); }, "damaged");
  std::filesystem::remove(notice.path);
  expect_refused([&] { CheckpointReader().read(ref); }, "gone");
}

TEST_F(Checkpoint, RefusesAMemberThatIsNotThere) {
  for (const std::int64_t index : {std::int64_t{3}, std::int64_t{-1}, std::int64_t{1} << 60}) {
    ref.array_index = index;
    expect_refused([&] { CheckpointReader().read(ref); }, "member " + std::to_string(index));
  }
}

TEST_F(Checkpoint, RefusesTensorsOfAnotherModel) {
  CheckpointReader reader;
  const MemberTensors member = reader.read(ref);
  at::Tensor longer = at::zeros({3, 2, 5}), flat = at::zeros({3, 8}), doubles = at::zeros({3, 2, 4}, at::kDouble);
  expect_refused([&] { restore(member, "v", longer, 0); }, "no tensor v");
  expect_refused([&] { restore(member, "w", longer, 0); }, "tensor w has another shape or type");
  expect_refused([&] { restore(member, "w", flat, 0); }, "tensor w has another shape or type");
  expect_refused([&] { restore(member, "w", doubles, 0); }, "tensor w has another shape or type");
}

TEST_F(Checkpoint, TellsAFolderThatCannotBe) {
  job.checkpoint_folder = notice.path + "/below";  // a file is in the way
  try {
    write_checkpoint(job, 13, tensors);
    ADD_FAILURE() << "written";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::storage);
    EXPECT_NE(std::string(error.what()).find(job.checkpoint_folder), std::string::npos);
  }
}

TEST(CheckpointClock, CountsStepsAndSeconds) {
  CheckpointClock steps(CheckpointSpec{1e9, 10, 2, {}}, 0);
  EXPECT_FALSE(steps.due(9));
  EXPECT_EQ(steps.steps_until_due(4), 6);
  EXPECT_TRUE(steps.due(10));
  steps.written(13);
  EXPECT_FALSE(steps.due(20));
  EXPECT_TRUE(steps.due(23));
  CheckpointClock seconds(CheckpointSpec{1e-9, {}, 2, {}}, 5);
  EXPECT_FALSE(seconds.due(5));
  EXPECT_TRUE(seconds.due(6));
  CheckpointClock history(CheckpointSpec{1e9, {}, 2, 4}, 0);
  EXPECT_FALSE(history.due(3));
  EXPECT_TRUE(history.due(4));
  history.written(6);  // a drain in between moves no multiple
  EXPECT_EQ(history.steps_until_due(6), 2);
  EXPECT_TRUE(history.due(8));
  EXPECT_FALSE(history.due(10));
}

}  // namespace
}  // namespace tenfold::testing

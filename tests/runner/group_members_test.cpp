#include "runner/group_members.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tenfold {
namespace {

using testing::ElementsAre;

TEST(GroupMembers, TakesTheHostWhereTheFewestMoreAreIdle) {
  const std::vector<GroupSlot> idle{
      {1, "a", "cpu"}, {2, "a", "cpu"}, {3, "a", "cpu"}, {4, "b", "cpu"}, {5, "b", "cpu"}};
  EXPECT_THAT(choose_members(idle, 1), ElementsAre(4));
  EXPECT_THAT(choose_members(idle, 2), ElementsAre(4, 5));
  EXPECT_THAT(choose_members(idle, 3), ElementsAre(1, 2, 3));
}

TEST(GroupMembers, SpansAsFewHostsAsPossibleWhereOneIsTooSmall) {
  const std::vector<GroupSlot> idle{{1, "a", "cpu"}, {2, "b", "cpu"}, {3, "b", "cpu"}, {4, "c", "cpu"}};
  EXPECT_THAT(choose_members(idle, 3), ElementsAre(2, 3, 1));
  EXPECT_THAT(choose_members(idle, 4), ElementsAre(2, 3, 1, 4));
}

TEST(GroupMembers, TakesGpusThatAreNotSharedFirst) {
  const std::vector<GroupSlot> idle{
      {1, "a", "cuda:0"}, {2, "a", "cuda:0"}, {3, "a", "cuda:1"}, {4, "a", "cuda:1"}, {5, "a", "cuda:2"}};
  EXPECT_THAT(choose_members(idle, 3), ElementsAre(1, 3, 5));
  EXPECT_THAT(choose_members(idle, 4), ElementsAre(1, 2, 3, 5));
}

TEST(GroupMembers, AreDescribedForTheRecord) {
  const std::vector<GroupSlot> alone{{3, "a", "cpu"}};
  EXPECT_EQ(describe_members(alone), "cpu");
  const std::vector<GroupSlot> cores{{1, "a", "cpu"}, {2, "a", "cpu"}, {3, "a", "cpu"}, {7, "a", "cpu"}};
  EXPECT_EQ(describe_members(cores), "cpu x4, ranks 1-3,7");
  const std::vector<GroupSlot> gpus{{2, "a", "cuda:1"}, {1, "b", "cuda:0"}};
  EXPECT_EQ(describe_members(gpus), "cuda:1 cuda:0, ranks 1-2 on 2 hosts");
}

}  // namespace
}  // namespace tenfold

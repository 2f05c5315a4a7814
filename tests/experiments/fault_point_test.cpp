#include "experiments/fault_point.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "experiments/error.h"

namespace tenfold {
namespace {

class FaultPoint : public ::testing::Test {
 protected:
  void arm(const std::string& text) {
    setenv("TENFOLD_FAULT", text.c_str(), 1);
    arm_faults_from_environment();
  }
  void TearDown() override {
    unsetenv("TENFOLD_FAULT");
    arm_faults_from_environment();
  }
  static bool strikes(std::string_view point, std::int64_t n) {
    try {
      fault_point(point, n);
      return false;
    } catch (const Error&) {
      return true;
    }
  }
};

TEST_F(FaultPoint, IsHarmlessWhenUnset) {
  EXPECT_FALSE(strikes("step", 5));
  arm("");
  EXPECT_FALSE(strikes("step", 5));
}

TEST_F(FaultPoint, StrikesAtItsPointAndNumber) {
  arm("throw@checkpoint:3");
  EXPECT_FALSE(strikes("checkpoint", 2));
  EXPECT_FALSE(strikes("step", 3));
  EXPECT_TRUE(strikes("checkpoint", 3));
  EXPECT_TRUE(strikes("checkpoint", 3)) << "a poisonous trial fails every time";
}

TEST_F(FaultPoint, CountsWhereNobodyElseDoes) {
  arm("throw@commit:3");
  fault_point("commit");
  fault_point("rename");
  fault_point("commit");
  fault_point("rename");
  EXPECT_THROW(fault_point("commit"), Error);
  fault_point("commit");
}

TEST_F(FaultPoint, KeepsToUnitAndStage) {
  arm("throw@step:1,only=7,stage=adapt");
  const std::int64_t units[] = {6, 7};
  set_fault_scope("fit", units);
  EXPECT_FALSE(strikes("step", 1));
  set_fault_scope("adapt", std::span(units).first(1));
  EXPECT_FALSE(strikes("step", 1));
  set_fault_scope("adapt", units);
  EXPECT_TRUE(strikes("step", 1));
}

TEST_F(FaultPoint, OnceIsRememberedInAFile) {
  const std::filesystem::path mark =
      std::filesystem::temp_directory_path() / ("tenfold_fault_" + std::to_string(getpid()));
  arm("throw@step:1,once=" + mark.string());
  EXPECT_TRUE(strikes("step", 1));
  EXPECT_TRUE(std::filesystem::exists(mark));
  EXPECT_FALSE(strikes("step", 1));
  std::filesystem::remove(mark);
}

TEST_F(FaultPoint, SaysWhatItDoesNotUnderstand) {
  for (const char* wrong :
       {"kill", "kill@step", "kill@step:x", "explode@step:1", "only=1", "kill@step:1,only=a", "a:b@c"}) {
    setenv("TENFOLD_FAULT", wrong, 1);
    try {
      arm_faults_from_environment();
      ADD_FAILURE() << wrong;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::config);
      EXPECT_NE(std::string(error.what()).find("kill@step:5"), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace tenfold

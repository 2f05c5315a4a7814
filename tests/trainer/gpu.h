#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace tenfold::testing {

// Of this machine, as far as their device files show.
inline int gpus() {
  int count = 0;
  while (std::filesystem::exists("/dev/nvidia" + std::to_string(count))) ++count;
  return count;
}

// Tests that need a GPU. Skipped, and said so, where there is none; TENFOLD_EXPECT_GPU=1 makes that a failure.
class GpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::filesystem::exists("/proc/driver/nvidia/version") || std::filesystem::exists("/dev/nvidia0")) return;
    ASSERT_EQ(std::getenv("TENFOLD_EXPECT_GPU"), nullptr) << "a GPU is expected here and there is none";
    GTEST_SKIP() << "no GPU on this machine: the CUDA half is not tested";
  }
};

}  // namespace tenfold::testing

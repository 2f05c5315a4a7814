#include "runner/doctor_gpu.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "experiments/error.h"

namespace tenfold {
namespace {

TEST(DoctorGpu, TellsEverySizeThatWasMeasured) {
  const auto findings = describe_nccl_measures(
      "a library says hello\n"
      R"({"gpus": 4, "nccl": "2.28.9", "bytes": 1048576, "all_reduce_s": 0.00005, "bus_gb_per_s": 31.5})"
      "\n"
      R"({"gpus": 4, "nccl": "2.28.9", "bytes": 268435456, "all_reduce_s": 0.00115, "bus_gb_per_s": 350.04})"
      "\n");
  ASSERT_EQ(findings.size(), 2u);
  EXPECT_EQ(findings[1].detail, "NCCL 2.28.9, 4 GPUs:  256 MiB summed in    1.150 ms, 350.0 GB/s on the bus");
  EXPECT_EQ(findings[1].health, Health::ok);
}

TEST(DoctorGpu, SaysWhatItCannotRead) {
  EXPECT_THROW(describe_nccl_measures(""), Error);
  EXPECT_THROW(describe_nccl_measures("{\"gpus\": 4}\n"), Error);
  EXPECT_THROW(describe_nccl_measures("{not json\n"), Error);
}

}  // namespace
}  // namespace tenfold

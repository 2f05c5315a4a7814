#pragma once

#include <cstdint>

#include "trainer/group_socket.h"

namespace tenfold {

// What tests and benchmarks change of a group, from the environment of its trainers. Free of LibTorch.
struct GroupSettings {
  GroupTimes times;               // TENFOLD_GROUP_SILENCE_S: times.silence; TENFOLD_GROUP_STALL_S: times.stall
  std::int64_t bucket_bytes = 0;  // TENFOLD_BUCKET_BYTES (gradient_buckets.h); 0: as the collective sees fit

  // Throws Error(config) where one is no positive number.
  static GroupSettings from_environment();
};

}  // namespace tenfold

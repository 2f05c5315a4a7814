#pragma once

#include <string>

namespace tenfold {

// All-reduces over all GPUs of this machine, 1 to 256 MiB, as lines of JSON: gpus, nccl (its version), bytes,
// all_reduce_s, bus_gb_per_s. Throws Error(device).
std::string measure_nccl();

}  // namespace tenfold

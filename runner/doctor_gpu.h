#pragma once

#include <string>
#include <vector>

#include "runner/doctor.h"

namespace tenfold {

// How fast NCCL sums over all GPUs of this machine, measured by `tenfold-trainer --measure-nccl`.
std::vector<Finding> measure_gpus();

// What that program printed: lines of JSON with gpus, nccl, bytes, all_reduce_s and bus_gb_per_s, one for each size.
// Throws Error(communication) when it is something else.
std::vector<Finding> describe_nccl_measures(const std::string& output);

}  // namespace tenfold

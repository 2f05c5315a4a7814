#pragma once

#include <string>

#include "experiments/spec.h"

namespace tenfold {

// GPUs that this process may use: those of the driver (without linking CUDA), as far as CUDA_VISIBLE_DEVICES lets
// them through.
int visible_gpus();

// Cores that this process may use.
int usable_cores();

struct SlotChoice {
  int slots = 1;
  bool gpu = false;
  bool share_gpus = false;  // by the file's wish: there is more than one slot for each GPU
};
// The command line's wish, else the file's, else slots_per_gpu for each GPU, or else one per core. Throws Error(device) when a GPU is
// asked for and there is none.
SlotChoice choose_slots(const ResourcesSpec& resources, int wanted_slots, const std::string& wanted_device,
                        int gpus = visible_gpus());

// "cpu", or "cuda:N" for the `index`-th slot of this host.
std::string slot_device(bool gpu, int index_on_host);

}  // namespace tenfold

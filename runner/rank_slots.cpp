#include "runner/rank_slots.h"

#include <sched.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <thread>

#include "experiments/error.h"

namespace tenfold {
namespace {

int driver_gpus() {
  std::error_code error;
  int count = 0;
  for (std::filesystem::directory_iterator it("/proc/driver/nvidia/gpus", error), end; !error && it != end;
       it.increment(error))
    ++count;
  if (count > 0) return count;
  // In containers that hide /proc/driver: the device files that the runtime put there.
  error.clear();
  for (std::filesystem::directory_iterator it("/dev", error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with("nvidia") && name.size() > 6 &&
        std::all_of(name.begin() + 6, name.end(), [](unsigned char c) { return std::isdigit(c) != 0; }))
      ++count;
  }
  return count;
}

}  // namespace

int visible_gpus() {
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  const int gpus = driver_gpus();
  if (!visible || gpus == 0) return gpus;
  // A list of indices or UUIDs; the first one that is -1 or empty hides itself and all that follow.
  int count = 0;
  std::string_view rest = visible;
  while (!rest.empty()) {
    const std::string_view entry = rest.substr(0, rest.find(','));
    if (entry.empty() || entry == "-1" || entry == "NoDevFiles") break;
    ++count;
    rest = entry.size() == rest.size() ? std::string_view{} : rest.substr(entry.size() + 1);
  }
  return count;
}

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

SlotChoice choose_slots(const ResourcesSpec& resources, int wanted_slots, const std::string& wanted_device,
                        int gpus_here) {
  const std::string& device = wanted_device.empty() ? resources.device : wanted_device;
  const int gpus = device == "cpu" ? 0 : gpus_here;
  if (device == "cuda" && gpus == 0)
    throw Error(ErrorKind::device,
                "device cuda is asked for, but no NVIDIA GPU is visible here: use --device cpu, or see tenfold doctor");
  SlotChoice choice;
  choice.gpu = gpus > 0;
  choice.slots = wanted_slots > 0      ? wanted_slots
                 : resources.slots > 0 ? resources.slots
                 : gpus > 0            ? gpus * resources.slots_per_gpu
                                       : usable_cores();
  choice.share_gpus = choice.gpu && resources.slots_per_gpu > 1;
  return choice;
}

std::string slot_device(bool gpu, int index_on_host) {
  if (!gpu) return "cpu";
  return "cuda:" + std::to_string(index_on_host % std::max(1, visible_gpus()));
}

}  // namespace tenfold

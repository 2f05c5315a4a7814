#include "trainer/compute.h"

#include <dlfcn.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "experiments/error.h"
#include "trainer/nccl_measure.h"

namespace tenfold {
namespace {

// libtenfold_cuda.so exports this: a Compute on device N, or null with the reason in `error`.
using MakeCudaCompute = Compute* (*)(int device, std::string* error);
// And this, where it was built with NCCL: false with the reason in `error`.
using MeasureNccl = bool (*)(std::string* lines, std::string* error);

std::filesystem::path beside_executable(const char* name) {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / name;
}

// What libtenfold_cuda.so exports under this name; null where it does not. Throws Error(device).
void* from_cuda_half(const char* name) {
  const std::filesystem::path library = beside_executable("libtenfold_cuda.so");
  if (!std::filesystem::exists(library))
    throw Error(ErrorKind::device,
                "this build has no CUDA half (" + library.string() +
                    " is missing): install the CUDA toolkit and run ./tenfold setup, or use --device cpu");
  // Global, so that LibTorch's CUDA library registers with the CPU half that is loaded already.
  void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (handle == nullptr)
    throw Error(ErrorKind::device, std::string("the CUDA half cannot be loaded: ") + dlerror() +
                                       "; ./tenfold doctor says what is missing");
  return dlsym(handle, name);
}

}  // namespace

std::unique_ptr<Compute> make_cuda_compute(int device) {
  const auto make = reinterpret_cast<MakeCudaCompute>(from_cuda_half("tenfold_make_cuda_compute"));
  if (make == nullptr) throw Error(ErrorKind::internal, "libtenfold_cuda.so does not belong to this program");
  std::string error;
  std::unique_ptr<Compute> compute(make(device, &error));
  if (!compute) throw Error(ErrorKind::device, error);
  return compute;
}

std::string measure_nccl() {
  const auto measure = reinterpret_cast<MeasureNccl>(from_cuda_half("tenfold_measure_nccl"));
  if (measure == nullptr) throw Error(ErrorKind::device, "this build has no NCCL: nccl.h was not found");
  std::string lines, error;
  if (!measure(&lines, &error)) throw Error(ErrorKind::device, error);
  return lines;
}

std::unique_ptr<Compute> make_compute(const std::string& device) {
  if (device == "cpu") return make_cpu_compute();
  int number = 0;
  constexpr std::string_view kPrefix = "cuda:";
  const char* last = device.data() + device.size();
  const char* first = device.data() + std::min(kPrefix.size(), device.size());
  const auto [end, error] = std::from_chars(first, last, number);
  if (!device.starts_with(kPrefix) || error != std::errc() || end != last)
    throw Error(ErrorKind::config, "no device is called '" + device + "': it is cpu or cuda:N");
  return make_cuda_compute(number);
}

}  // namespace tenfold

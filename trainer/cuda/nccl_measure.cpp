// How fast NCCL adds up over the GPUs of this machine: what trainer/compute.cpp looks up.
#include <cuda_runtime_api.h>
#include <nccl.h>

#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

namespace tenfold {
namespace {

constexpr int kWarmUps = 3, kRepeats = 20;

void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}
void check(ncclResult_t result) {
  if (result != ncclSuccess) throw std::runtime_error(std::string("NCCL: ") + ncclGetErrorString(result));
}

struct Device {
  cudaStream_t stream = nullptr;
  float* values = nullptr;
  ncclComm_t communicator = nullptr;
};

class Devices {
 public:
  Devices(int count, std::size_t bytes) : all_(static_cast<std::size_t>(count)) {
    std::vector<ncclComm_t> communicators(all_.size());
    check(ncclCommInitAll(communicators.data(), count, nullptr));
    for (std::size_t i = 0; i < all_.size(); ++i) {
      all_[i].communicator = communicators[i];
      check(cudaSetDevice(static_cast<int>(i)));
      check(cudaStreamCreateWithFlags(&all_[i].stream, cudaStreamNonBlocking));
      check(cudaMalloc(reinterpret_cast<void**>(&all_[i].values), bytes));
      check(cudaMemset(all_[i].values, 0, bytes));
    }
  }
  ~Devices() {
    for (std::size_t i = 0; i < all_.size(); ++i) {
      cudaSetDevice(static_cast<int>(i));
      if (all_[i].communicator != nullptr) ncclCommDestroy(all_[i].communicator);
      if (all_[i].stream != nullptr) cudaStreamDestroy(all_[i].stream);
      cudaFree(all_[i].values);
    }
  }
  Devices(const Devices&) = delete;
  Devices& operator=(const Devices&) = delete;

  double seconds_of_sum(std::size_t bytes) {
    for (int i = 0; i < kWarmUps; ++i) add_up(bytes);
    wait();
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < kRepeats; ++i) add_up(bytes);
    wait();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / kRepeats;
  }

 private:
  void add_up(std::size_t bytes) {
    check(ncclGroupStart());
    for (const Device& device : all_)
      check(ncclAllReduce(device.values, device.values, bytes / sizeof(float), ncclFloat, ncclSum, device.communicator,
                          device.stream));
    check(ncclGroupEnd());
  }
  void wait() {
    for (std::size_t i = 0; i < all_.size(); ++i) {
      check(cudaSetDevice(static_cast<int>(i)));
      check(cudaStreamSynchronize(all_[i].stream));
    }
  }
  std::vector<Device> all_;
};

}  // namespace
}  // namespace tenfold

// One JSON object a line. Bus bandwidth as nccl-tests define it: 2 (n-1)/n of the bytes, over the time. Returns false
// with the reason in `error`.
extern "C" bool tenfold_measure_nccl(std::string* lines, std::string* error) {
  try {
    int count = 0, version = 0;
    tenfold::check(cudaGetDeviceCount(&count));
    tenfold::check(ncclGetVersion(&version));
    if (count < 2) {
      *error = "NCCL needs two GPUs to be measured, and CUDA shows " + std::to_string(count);
      return false;
    }
    constexpr std::size_t kMost = std::size_t{256} << 20;
    tenfold::Devices devices(count, kMost);
    for (std::size_t bytes = std::size_t{1} << 20; bytes <= kMost; bytes *= 4) {
      const double seconds = devices.seconds_of_sum(bytes);
      const double bus = 2.0 * (count - 1) / count * static_cast<double>(bytes) / seconds / 1e9;
      char line[256];
      std::snprintf(line, sizeof line,
                    "{\"gpus\": %d, \"nccl\": \"%d.%d.%d\", \"bytes\": %zu, \"all_reduce_s\": %.3e, "
                    "\"bus_gb_per_s\": %.1f}\n",
                    count, version / 10000, version / 100 % 100, version % 100, bytes, seconds, bus);
      *lines += line;
    }
    return true;
  } catch (const std::exception& failure) {
    *error = failure.what();
    return false;
  }
}

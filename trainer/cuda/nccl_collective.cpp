#include "trainer/cuda/nccl_collective.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <nccl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <exception>
#include <mutex>
#include <thread>

#include "experiments/error.h"
#include "experiments/frozen_time.h"

namespace tenfold {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLook{200};
constexpr std::int64_t kBucketBytes = std::int64_t{16} << 20;

void check(ncclResult_t result, const char* what) {
  if (result == ncclSuccess) return;
  throw Error(ErrorKind::communication, std::string("NCCL: ") + what + ": " + ncclGetErrorString(result) + "; " +
                                            ncclGetLastError(nullptr));
}

class Event {
 public:
  Event() { C10_CUDA_CHECK(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming | cudaEventBlockingSync)); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(cudaStream_t stream) { C10_CUDA_CHECK(cudaEventRecord(event_, stream)); }
  void hold(cudaStream_t stream) { C10_CUDA_CHECK(cudaStreamWaitEvent(stream, event_, 0)); }
  void wait() { C10_CUDA_CHECK(cudaEventSynchronize(event_)); }

 private:
  cudaEvent_t event_ = nullptr;
};

// Ends the process when the host waits for a device that waits for ever.
class Watchdog {
 public:
  explicit Watchdog(const GroupLink& link) : link_(link), thread_([this] { look(); }) {}
  ~Watchdog() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  void watch(bool on) {
    const std::lock_guard lock(mutex_);
    watching_ = on;
    last_ = steady_clock::now();
  }
  void progressed() {
    const std::lock_guard lock(mutex_);
    const auto now = steady_clock::now();
    // The first one loads what the others find loaded: it says nothing of how long a step may take.
    longest_ = steps_ < 2 ? now - last_ : std::max(longest_, now - last_);
    last_ = now;
    ++steps_;
  }
  void set_communicator(ncclComm_t communicator) {
    const std::lock_guard lock(mutex_);
    communicator_ = communicator;
  }

 private:
  void look() {
    std::unique_lock lock(mutex_);
    FrozenTime frozen;
    while (!changed_.wait_for(lock, kLook, [this] { return over_; })) {
      last_ += frozen.take();
      if (!watching_) continue;
      if (const std::optional<int> rank = link_.gone()) leave("rank " + std::to_string(*rank) + " is gone");
      ncclResult_t error = ncclSuccess;
      if (communicator_ != nullptr && ncclCommGetAsyncError(communicator_, &error) == ncclSuccess &&
          error != ncclSuccess && error != ncclInProgress)
        leave(std::string("NCCL: ") + ncclGetErrorString(error));
      const auto limit = longest_ == steady_clock::duration::zero()
                             ? steady_clock::duration(link_.times().first_stall)
                             : std::max<steady_clock::duration>(link_.times().stall, 10 * longest_);
      if (steady_clock::now() - last_ > limit)
        leave("no step for " + std::to_string(std::chrono::duration_cast<std::chrono::seconds>(limit).count()) + " s");
    }
  }
  [[noreturn]] static void leave(const std::string& reason) {
    std::fprintf(stderr, "tenfold-trainer: the trial's group is broken: %s; exiting\n", reason.c_str());
    std::fflush(stderr);
    _exit(exit_code(ErrorKind::communication));
  }

  const GroupLink& link_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false, watching_ = false;
  ncclComm_t communicator_ = nullptr;
  steady_clock::time_point last_ = steady_clock::now();
  steady_clock::duration longest_{};
  std::uint64_t steps_ = 0;
  std::thread thread_;  // last: it uses the others
};

class NcclCollective final : public Collective {
 public:
  NcclCollective(std::unique_ptr<GroupLink> given, at::Device device)
      : Collective(std::move(given)),
        device_(device),
        stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, device.index())),
        exceptions_(std::uncaught_exceptions()),
        watchdog_(link()) {
    ncclUniqueId id{};
    if (leads()) check(ncclGetUniqueId(&id), "making an id");
    link().broadcast(std::as_writable_bytes(std::span(&id, 1)));
    await_all();
    // Blocking, so that later calls can be captured; a rank that never comes is the watchdog's.
    watchdog_.watch(true);
    check(ncclCommInitRank(&communicator_, size(), id, rank()), "joining the group");
    watchdog_.set_communicator(communicator_);
    // What NCCL makes ready at first use is not for a capture.
    at::Tensor one = at::ones({1}, at::TensorOptions(at::kFloat).device(device_));
    sum(one);
    c10::cuda::getCurrentCUDAStream(device_.index()).synchronize();
    watchdog_.watch(false);
    if (one.item<float>() != static_cast<float>(size()))
      throw Error(ErrorKind::device, "NCCL sums wrongly on this machine; ./tenfold doctor --gpu looks closer");
  }

  // After a failure the others may never answer: the process is to be replaced, and nothing is undone here.
  ~NcclCollective() override {
    watchdog_.set_communicator(nullptr);
    if (communicator_ != nullptr && std::uncaught_exceptions() == exceptions_) ncclCommDestroy(communicator_);
  }

  void sum(const at::Tensor& tensor) override {
    begin_sum(tensor);
    finish_sums();
  }
  void begin_sum(const at::Tensor& tensor) override {
    check_tensor(tensor);
    ready_.record(computing());
    ready_.hold(stream_.stream());
    const ncclDataType_t type = tensor.scalar_type() == at::kDouble ? ncclDouble : ncclFloat;
    check(ncclAllReduce(tensor.const_data_ptr(), tensor.mutable_data_ptr(), static_cast<std::size_t>(tensor.numel()),
                        type, ncclSum, communicator_, stream_.stream()),
          "adding up");
    pending_ = true;
  }
  void finish_sums() override {
    if (!pending_) return;
    pending_ = false;
    summed_.record(stream_.stream());
    summed_.hold(computing());
  }
  void broadcast(const at::Tensor& tensor) override {
    check_tensor(tensor);
    ready_.record(computing());
    ready_.hold(stream_.stream());
    check(ncclBroadcast(tensor.const_data_ptr(), tensor.mutable_data_ptr(), tensor.nbytes(), ncclUint8, /*root=*/0,
                        communicator_, stream_.stream()),
          "sending to all");
    pending_ = true;
    finish_sums();
  }
  std::int64_t bucket_bytes() const override { return kBucketBytes; }

  void watch(bool on) override { watchdog_.watch(on); }
  // The host stays one step ahead, so that silence is told from work.
  void progressed() override {
    steps_[step_ % steps_.size()].record(computing());
    step_ += 1;
    if (step_ < steps_.size()) return;
    steps_[step_ % steps_.size()].wait();
    watchdog_.progressed();
  }
  void leave() override {
    c10::cuda::device_synchronize();
    Collective::leave();
  }

 private:
  void check_tensor(const at::Tensor& tensor) const {
    if (tensor.device() != device_ || !tensor.is_contiguous() ||
        (tensor.scalar_type() != at::kFloat && tensor.scalar_type() != at::kDouble))
      throw Error(ErrorKind::internal, "a tensor that cannot be summed over ranks");
  }
  cudaStream_t computing() const { return c10::cuda::getCurrentCUDAStream(device_.index()).stream(); }

  at::Device device_;
  c10::cuda::CUDAStream stream_;  // NCCL's
  ncclComm_t communicator_ = nullptr;
  Event ready_, summed_;
  bool pending_ = false;
  std::array<Event, 2> steps_;
  std::size_t step_ = 0;
  int exceptions_;
  Watchdog watchdog_;
};

}  // namespace

std::unique_ptr<Collective> make_nccl_collective(std::unique_ptr<GroupLink> link, at::Device device) {
  return std::make_unique<NcclCollective>(std::move(link), device);
}

}  // namespace tenfold

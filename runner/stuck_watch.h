#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

namespace tenfold {

// Ends this process when its loop stands still: a call into MPI may wait for a daemon that is itself being ended, or
// that has lost its link, and then nothing else in the loop gets its turn. What is committed is safe.
class StuckWatch {
 public:
  // After `limit_s`; after `limit_terminated_s` when there is a SIGTERM that the loop has not taken. Time in which the
  // whole process was stopped does not count.
  StuckWatch(double limit_s, double limit_terminated_s);
  ~StuckWatch();
  StuckWatch(const StuckWatch&) = delete;
  StuckWatch& operator=(const StuckWatch&) = delete;

  void turn() { turns_.fetch_add(1, std::memory_order_relaxed); }  // the loop has come round

 private:
  void watch();

  const double limit_s_, limit_terminated_s_;
  std::atomic<std::uint64_t> turns_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::thread thread_;
};

}  // namespace tenfold

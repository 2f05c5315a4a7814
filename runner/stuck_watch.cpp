#include "runner/stuck_watch.h"

#include <signal.h>
#include <unistd.h>

#include <chrono>

#include "experiments/error.h"

namespace tenfold {
namespace {

constexpr double kLook_s = 0.25;

bool terminated() {
  sigset_t pending;
  return ::sigpending(&pending) == 0 && sigismember(&pending, SIGTERM) == 1;
}

}  // namespace

StuckWatch::StuckWatch(double limit_s, double limit_terminated_s)
    : limit_s_(limit_s), limit_terminated_s_(limit_terminated_s), thread_([this] { watch(); }) {}

StuckWatch::~StuckWatch() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void StuckWatch::watch() {
  std::uint64_t seen = 0;
  double still_s = 0;  // by looks, not by the clock: a stopped process does not look
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, std::chrono::duration<double>(kLook_s), [this] { return over_; })) {
    const std::uint64_t now = turns_.load(std::memory_order_relaxed);
    still_s = now == seen ? still_s + kLook_s : 0;
    seen = now;
    if (still_s > limit_s_ || (still_s > limit_terminated_s_ && terminated()))
      ::_exit(exit_code(ErrorKind::communication));
  }
}

}  // namespace tenfold

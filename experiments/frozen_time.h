#pragma once

#include <chrono>

namespace tenfold {

// Time in which this process did not run: stopped, or frozen with its container, its job or its machine. Clocks went
// on, and whoever this process hears from was most likely frozen with it: their silence tells nothing. For loops that
// come round far more often than the limit.
class FrozenTime {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr auto kTurn = std::chrono::seconds(2);  // a turn that takes longer was no turn

  // Since the last call, or since it was made; 0 when it was a turn.
  Clock::duration take(Clock::time_point now = Clock::now()) {
    const Clock::duration since = now - last_;
    last_ = now;
    return since > kTurn ? since : Clock::duration::zero();
  }

 private:
  Clock::time_point last_ = Clock::now();
};

}  // namespace tenfold

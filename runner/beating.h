#pragma once

#include <chrono>
#include <functional>
#include <future>

namespace tenfold {

// Waits for what another thread reads or writes while `beat` tells others, at each pause, that this process lives: by
// who hears nothing it is taken for dead.
template <class Result>
void wait_beating(const std::future<Result>& work, std::chrono::milliseconds pause, const std::function<void()>& beat) {
  do {
    beat();
  } while (work.wait_for(pause) != std::future_status::ready);
}

}  // namespace tenfold

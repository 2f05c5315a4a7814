#pragma once

#include <chrono>
#include <functional>
#include <future>
#include <system_error>

namespace tenfold {

// Begins `work` in a thread aside; where there is no thread to be had (ulimit -u, a container's limit), does it at
// once.
template <class Work>
auto begin_aside(Work work) {
  try {
    return std::async(std::launch::async, work);
  } catch (const std::system_error&) {
    std::packaged_task<decltype(work())()> task(work);
    auto done = task.get_future();
    task();
    return done;
  }
}

// Waits for what another thread reads or writes while `beat` tells others, at each pause, that this process lives: by
// who hears nothing it is taken for dead.
template <class Result>
void wait_beating(const std::future<Result>& work, std::chrono::milliseconds pause, const std::function<void()>& beat) {
  do {
    beat();
  } while (work.wait_for(pause) != std::future_status::ready);
}

}  // namespace tenfold

#pragma once

#include <condition_variable>
#include <mutex>
#include <string>

#include "experiments/error.h"
#include "trainer/meeting.h"

namespace tenfold::testing {

// Where threads of one process meet.
class LocalMeeting final : public Meeting {
 public:
  void announce(const GroupAddress& address) override {
    const std::lock_guard lock(mutex_);
    address_ = address;
    announced_.notify_all();
  }
  GroupAddress await(std::chrono::milliseconds patience) override {
    std::unique_lock lock(mutex_);
    if (!announced_.wait_for(lock, patience, [this] { return !address_.address.empty(); }))
      throw Error(ErrorKind::communication, "nobody announced a meeting");
    return address_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable announced_;
  GroupAddress address_;
};

}  // namespace tenfold::testing

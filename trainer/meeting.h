#pragma once

#include <chrono>

#include "trainer/protocol.h"

namespace tenfold {

// How the trainers of a group find each other: the leader's address goes through the workers and the coordinator.
class Meeting {
 public:
  virtual ~Meeting() = default;
  virtual void announce(const GroupAddress& address) = 0;  // the leader's
  // Waits for what the leader of the current job's group announced. Throws Error(communication) after `patience`.
  virtual GroupAddress await(std::chrono::milliseconds patience) = 0;
};

}  // namespace tenfold

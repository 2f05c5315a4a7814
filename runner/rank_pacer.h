#pragma once

#include <poll.h>

#include <chrono>
#include <vector>

namespace tenfold {

// How long a loop sleeps between two looks at MPI, which cannot wake it: hardly at all while messages come, longer
// and longer while none do; a heartbeat is no message in this sense. Sockets wake it at once.
class Pacer {
 public:
  void wait(bool active, std::vector<pollfd>& sockets);

 private:
  int quiet_rounds_ = 0;
};

}  // namespace tenfold

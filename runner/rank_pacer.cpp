#include "runner/rank_pacer.h"

#include <ctime>

namespace tenfold {

void Pacer::wait(bool active, std::vector<pollfd>& sockets) {
  quiet_rounds_ = active ? 0 : quiet_rounds_ + 1;
  // 10 rounds of 0.1 ms catch an answer under way, 20 of 1 ms a queue that is being refilled; then at rest.
  const long nanoseconds = quiet_rounds_ < 10 ? 100'000 : quiet_rounds_ < 30 ? 1'000'000 : 5'000'000;
  const timespec limit{0, nanoseconds};
  ::ppoll(sockets.data(), sockets.size(), &limit, nullptr);
}

}  // namespace tenfold

#pragma once

#include <cstdint>
#include <vector>

#include "runner/unix_socket.h"
#include "trainer/session.h"

namespace tenfold {

// The collective of fake trainers: numbers of all members joined in the order of their ranks, over TCP on the loopback.
// A member that ends is noticed by the others: Error(communication), after which their array has failed.
class FakeGroup {
 public:
  FakeGroup(const JobGroup& group, Session& session);

  // Every member calls it equally often and gets the same.
  std::uint64_t combine(std::uint64_t mine);

 private:
  void meet(Session& session);
  void join(Session& session);

  JobGroup group_;
  std::vector<UniqueFd> links_;  // the leader: by rank of the others; else to the leader
};

}  // namespace tenfold

#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "trainer/meeting.h"
#include "trainer/protocol.h"

// The TCP sockets between the trainers of a group, and how they come about. Free of LibTorch.
namespace tenfold {

struct GroupTimes {
  std::chrono::milliseconds join{60'000};      // until every rank is there
  std::chrono::milliseconds silence{300'000};  // of a rank that another waits for; a closed socket is seen at once
  // Of a rank that gets ready: it may read data from a slow disk for as long as whoever started it lets it stand still
  // (resources.stall_limit_s, which may be never).
  std::chrono::milliseconds barrier{std::chrono::hours(24 * 365)};
  // Of a GPU that others may keep waiting (nccl_collective.h): between two steps, and until the first one is done, for
  // ranks have libraries and kernels made ready, from disks of different speed.
  std::chrono::milliseconds stall{60'000}, first_stall{300'000};
};

// A connected, non-blocking stream socket to one other rank.
class GroupSocket {
 public:
  explicit GroupSocket(int descriptor = -1, int peer = 0) : descriptor_(descriptor), peer_(peer) {}
  ~GroupSocket();
  GroupSocket(GroupSocket&& other) noexcept;
  GroupSocket& operator=(GroupSocket&& other) noexcept;

  int descriptor() const { return descriptor_; }
  int peer() const { return peer_; }
  bool open() const { return descriptor_ >= 0; }
  int release() { return std::exchange(descriptor_, -1); }
  // All of it, or Error(communication) naming the peer: closed, or silent for `silence`.
  void send(const void* data, std::size_t bytes, std::chrono::milliseconds silence);
  void receive(void* data, std::size_t bytes, std::chrono::milliseconds silence);
  // Whether the peer has closed or died; what it sent before need not have been read.
  bool closed_by_peer() const;

 private:
  void wait(short events, std::chrono::steady_clock::time_point until) const;

  int descriptor_;
  int peer_;
};

// The leader listens, announces where, and returns one socket per other rank, in their order. A connection that does
// not show the secret of the address is closed and nothing else happens. Throws Error(communication).
std::vector<GroupSocket> gather_group(const JobGroup& group, Meeting& meeting, const GroupTimes& times);
// Another rank waits for the address and connects: its socket to the leader. Throws Error(communication).
GroupSocket join_group(const JobGroup& group, Meeting& meeting, const GroupTimes& times);

}  // namespace tenfold

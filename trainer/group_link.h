#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "trainer/group_socket.h"

namespace tenfold {

// The ranks of a group over TCP: a star around the leader. All ranks make the same calls in the same order; a rank that
// does not is found out by the header of what it sends. Free of LibTorch.
//
// Every call throws Error(communication), naming the rank, where one is gone or silent.
class GroupLink {
 public:
  // Waits until all ranks have met.
  GroupLink(const JobGroup& group, Meeting& meeting, const GroupTimes& times = {});

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool leads() const { return rank_ == 0; }
  const GroupTimes& times() const { return times_; }

  // In place, over all ranks; added in the order of ranks, so that all have the same bits.
  void sum(std::span<float> values) { add_up(values); }
  void sum(std::span<double> values) { add_up(values); }
  // The leader's values everywhere.
  void broadcast(std::span<std::byte> values);
  // The leader's message everywhere; those of the others are not looked at.
  std::string broadcast(const std::string& message);
  // Nobody leaves before all have come, however long one takes (GroupTimes::barrier). A rank that is gone is an error
  // at once, whichever is waited for.
  void barrier();
  // A rank whose socket is closed. May be asked by another thread while no call is under way.
  std::optional<int> gone() const;

 private:
  template <class Value>
  void add_up(std::span<Value> values);
  void send_header(GroupSocket& to, std::uint32_t kind, std::size_t bytes);
  void expect_header(GroupSocket& from, std::uint32_t kind, std::size_t bytes);
  void await_word(std::vector<GroupSocket*>& silent, std::chrono::steady_clock::time_point until) const;
  std::size_t receive_header(GroupSocket& from, std::uint32_t kind, std::size_t most);

  int rank_, size_;
  GroupTimes times_;
  std::vector<GroupSocket> others_;  // the leader's: ranks 1, 2, ...; another's: the leader
};

}  // namespace tenfold

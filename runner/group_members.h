#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

// Which workers compute an array together.
namespace tenfold {

struct GroupSlot {
  int rank = 0;  // of the worker
  std::string_view host, device;
};

// `count` of the idle slots (at least so many): of the host where the fewest more are idle, or, where no host has
// enough, of as few hosts as possible; of one host first those that do not share a device. Ranks ascend within a host;
// the first one leads.
std::vector<int> choose_members(std::span<const GroupSlot> idle, int count);

// For the record: "cpu", "cpu x4, ranks 1-4", "cuda:0 cuda:1, ranks 1-2", "cuda:0 cuda:0, ranks 1,5 on 2 hosts".
std::string describe_members(std::span<const GroupSlot> members);

}  // namespace tenfold

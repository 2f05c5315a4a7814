#include "runner/group_members.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace tenfold {
namespace {

// First one slot of each device, then a second one, and so on.
std::vector<int> apart_first(const std::vector<GroupSlot>& slots) {
  std::map<std::string_view, int> seen;
  std::vector<std::pair<int, int>> order;  // round, rank
  for (const GroupSlot& slot : slots) order.emplace_back(slot.device == "cpu" ? 0 : seen[slot.device]++, slot.rank);
  std::sort(order.begin(), order.end());
  std::vector<int> ranks;
  for (const auto& [round, rank] : order) ranks.push_back(rank);
  return ranks;
}

// 1-4,7
std::string ranges(std::vector<int> ranks) {
  std::sort(ranks.begin(), ranks.end());
  std::string text;
  for (std::size_t i = 0; i < ranks.size();) {
    std::size_t last = i;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) ++last;
    text += (text.empty() ? "" : ",") + std::to_string(ranks[i]);
    if (last > i) text += "-" + std::to_string(ranks[last]);
    i = last + 1;
  }
  return text;
}

}  // namespace

std::vector<int> choose_members(std::span<const GroupSlot> idle, int count) {
  std::map<std::string_view, std::vector<GroupSlot>> by_host;
  for (const GroupSlot& slot : idle) by_host[slot.host].push_back(slot);
  const auto wanted = static_cast<std::size_t>(count);
  std::vector<std::vector<GroupSlot>> hosts;
  for (auto& [host, slots] : by_host) hosts.push_back(std::move(slots));
  // The smallest that is large enough; then the largest ones.
  std::stable_sort(hosts.begin(), hosts.end(), [&](const auto& a, const auto& b) {
    const bool a_fits = a.size() >= wanted, b_fits = b.size() >= wanted;
    if (a_fits != b_fits) return a_fits;
    return a_fits ? a.size() < b.size() : a.size() > b.size();
  });
  std::vector<int> members;
  for (const auto& slots : hosts) {
    std::vector<int> ranks = apart_first(slots);
    ranks.resize(std::min(ranks.size(), wanted - members.size()));
    std::sort(ranks.begin(), ranks.end());
    members.insert(members.end(), ranks.begin(), ranks.end());
    if (members.size() == wanted) break;
  }
  return members;
}

std::string describe_members(std::span<const GroupSlot> members) {
  if (members.size() == 1) return std::string(members.front().device);
  std::set<std::string_view> hosts;
  std::vector<int> ranks;
  std::string devices;
  bool alike = true;
  for (const GroupSlot& slot : members) {
    hosts.insert(slot.host);
    ranks.push_back(slot.rank);
    devices += (devices.empty() ? "" : " ") + std::string(slot.device);
    alike = alike && slot.device == "cpu";
  }
  std::string text = alike ? "cpu x" + std::to_string(members.size()) : devices;
  text += ", ranks " + ranges(std::move(ranks));
  if (hosts.size() > 1) text += " on " + std::to_string(hosts.size()) + " hosts";
  return text;
}

}  // namespace tenfold

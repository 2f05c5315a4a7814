#include "trainer/group_link.h"

#include <poll.h>

#include <algorithm>

#include "experiments/error.h"
#include "experiments/frozen_time.h"

namespace tenfold {
namespace {

constexpr std::uint32_t kMagic = 0x4c464e54;  // "TNFL"
constexpr std::uint32_t kSum = 1, kBroadcast = 2, kMessage = 3, kBarrier = 4;
constexpr std::size_t kMostMessageBytes = std::size_t{16} << 20;
constexpr std::size_t kPieceBytes = std::size_t{256} << 10;

struct Header {
  std::uint32_t magic, kind;
  std::uint64_t bytes;
};
static_assert(sizeof(Header) == 16);

}  // namespace

GroupLink::GroupLink(const JobGroup& group, Meeting& meeting, const GroupTimes& times)
    : rank_(group.rank), size_(group.size), times_(times) {
  if (leads())
    others_ = gather_group(group, meeting, times);
  else
    others_.push_back(join_group(group, meeting, times));
}

void GroupLink::send_header(GroupSocket& to, std::uint32_t kind, std::size_t bytes) {
  const Header header{kMagic, kind, bytes};
  to.send(&header, sizeof header, times_.silence);
}

std::size_t GroupLink::receive_header(GroupSocket& from, std::uint32_t kind, std::size_t most) {
  Header header;
  from.receive(&header, sizeof header, times_.silence);
  if (header.magic == kMagic && header.kind == kind && header.bytes <= most) return header.bytes;
  throw Error(ErrorKind::communication,
              "rank " + std::to_string(from.peer()) + " of the trial's group computes something else (message " +
                  std::to_string(header.kind) + " of " + std::to_string(header.bytes) + " bytes, expected " +
                  std::to_string(kind) + " of at most " + std::to_string(most) + ")");
}

void GroupLink::expect_header(GroupSocket& from, std::uint32_t kind, std::size_t bytes) {
  if (receive_header(from, kind, bytes) == bytes) return;
  throw Error(ErrorKind::communication,
              "rank " + std::to_string(from.peer()) + " of the trial's group computes on fewer numbers");
}

template <class Value>
void GroupLink::add_up(std::span<Value> values) {
  if (!leads()) {
    send_header(others_.front(), kSum, values.size_bytes());
    others_.front().send(values.data(), values.size_bytes(), times_.silence);
    expect_header(others_.front(), kSum, values.size_bytes());
    others_.front().receive(values.data(), values.size_bytes(), times_.silence);
    return;
  }
  std::vector<Value> piece(std::min(values.size(), kPieceBytes / sizeof(Value)));
  for (GroupSocket& other : others_) {
    expect_header(other, kSum, values.size_bytes());
    for (std::size_t first = 0; first < values.size(); first += piece.size()) {
      const std::size_t count = std::min(piece.size(), values.size() - first);
      other.receive(piece.data(), count * sizeof(Value), times_.silence);
      for (std::size_t i = 0; i < count; ++i) values[first + i] += piece[i];
    }
  }
  for (GroupSocket& other : others_) {
    send_header(other, kSum, values.size_bytes());
    other.send(values.data(), values.size_bytes(), times_.silence);
  }
}

template void GroupLink::add_up<float>(std::span<float>);
template void GroupLink::add_up<double>(std::span<double>);

void GroupLink::broadcast(std::span<std::byte> values) {
  if (!leads()) {
    expect_header(others_.front(), kBroadcast, values.size());
    others_.front().receive(values.data(), values.size(), times_.silence);
    return;
  }
  for (GroupSocket& other : others_) {
    send_header(other, kBroadcast, values.size());
    other.send(values.data(), values.size(), times_.silence);
  }
}

std::string GroupLink::broadcast(const std::string& message) {
  if (!leads()) {
    std::string received(receive_header(others_.front(), kMessage, kMostMessageBytes), '\0');
    others_.front().receive(received.data(), received.size(), times_.silence);
    return received;
  }
  for (GroupSocket& other : others_) {
    send_header(other, kMessage, message.size());
    other.send(message.data(), message.size(), times_.silence);
  }
  return message;
}

// Takes those off the list that have said something, or are gone: what reads from them finds that out.
void GroupLink::await_word(std::vector<GroupSocket*>& silent, std::chrono::steady_clock::time_point until) const {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
  if (left.count() <= 0)
    throw Error(ErrorKind::communication, "rank " + std::to_string(silent.front()->peer()) +
                                              " of the trial's group has not come to where the others wait for it");
  std::vector<pollfd> watched;
  for (const GroupSocket* socket : silent) watched.push_back({socket->descriptor(), POLLIN, 0});
  poll(watched.data(), watched.size(), static_cast<int>(std::min<std::int64_t>(left.count(), 1000)));
  std::size_t kept = 0;
  for (std::size_t i = 0; i < watched.size(); ++i)
    if (watched[i].revents == 0) silent[kept++] = silent[i];
  silent.resize(kept);
}

void GroupLink::barrier() {
  FrozenTime frozen;
  auto until = std::chrono::steady_clock::now() + times_.barrier;
  if (!leads()) send_header(others_.front(), kBarrier, 0);
  std::vector<GroupSocket*> silent;
  for (GroupSocket& other : others_) silent.push_back(&other);
  while (!silent.empty()) {
    const std::vector<GroupSocket*> waited_for = silent;
    until += frozen.take();
    await_word(silent, until);
    for (GroupSocket* socket : waited_for)
      if (std::ranges::find(silent, socket) == silent.end()) expect_header(*socket, kBarrier, 0);
  }
  if (!leads()) return;
  for (GroupSocket& other : others_) send_header(other, kBarrier, 0);
}

std::optional<int> GroupLink::gone() const {
  for (const GroupSocket& other : others_)
    if (other.closed_by_peer()) return other.peer();
  return std::nullopt;
}

}  // namespace tenfold

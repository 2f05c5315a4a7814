// A session's part in how the trainers of a group find each other.
#include <algorithm>

#include "experiments/error.h"
#include "trainer/session.h"

namespace tenfold {
namespace {

// More than the jobs that are queued at a trainer.
constexpr std::size_t kMostAddresses = 64;

}  // namespace

void Session::announce(const GroupAddress& address) { send(FrameType::meeting, encode(address)); }

// The address may come before the job of its attempt is taken up.
GroupAddress Session::await(std::chrono::milliseconds patience) {
  std::unique_lock lock(queue_mutex_);
  auto found = addresses_.end();
  const auto arrived = [&] {
    found = std::ranges::find(addresses_, attempt_, &std::pair<std::uint64_t, GroupAddress>::first);
    return found != addresses_.end();
  };
  if (!queue_changed_.wait_for(lock, patience, arrived))
    throw Error(ErrorKind::communication,
                "no word of where the trial's group meets within " + std::to_string(patience.count() / 1000) + " s");
  GroupAddress address = std::move(found->second);
  addresses_.erase(found);
  return address;
}

void Session::take_address(const Frame& frame) {
  const std::lock_guard lock(queue_mutex_);
  if (addresses_.size() == kMostAddresses) addresses_.pop_front();
  addresses_.emplace_back(frame.attempt, decode_group_address(frame.payload));
  queue_changed_.notify_all();
}

}  // namespace tenfold

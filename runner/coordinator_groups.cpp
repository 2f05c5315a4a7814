#include <algorithm>
#include <nlohmann/json.hpp>

#include "experiments/error.h"
#include "runner/coordinator.h"
#include "runner/group_members.h"

// Arrays that several workers compute together, and who is free for what. A group's trainers meet through us: the
// leader's says where it waits, and the others are told. When one of them fails, all are replaced.
namespace tenfold {
namespace {

constexpr auto kPartingLimit = std::chrono::seconds(10);  // when the leader is through, the others nearly are
constexpr auto kHearsayLimit = std::chrono::seconds(1);
constexpr std::size_t kMaxAddressBytes = 16 * 1024;

}  // namespace

std::vector<int> Coordinator::idle_workers() const {
  std::vector<int> idle;
  for (int rank = 1; rank < port_.size(); ++rank) {
    const Peer& peer = peers_[static_cast<std::size_t>(rank)];
    if (peer.ready && !peer.lost && peer.queue.empty()) idle.push_back(rank);
  }
  return idle;
}

Room Coordinator::room(const std::vector<int>& idle) const {
  Room room{static_cast<int>(idle.size()), {}};
  if (!groups_) return room;
  for (int rank = 1; rank < port_.size(); ++rank) {
    const Peer& peer = peers_[static_cast<std::size_t>(rank)];
    if (peer.lost || (peer.ready && peer.queue.empty())) continue;
    Room::Busy busy;  // a worker without a trainer will soon have one
    for (const std::uint64_t number : peer.queue) {
      const RunningArray& array = running_.at(number);
      double cost = 0;
      for (const Member& member : array.members)
        if (!member.over) cost += scheduler_->item(member.unit).cost;
      busy.cost_left += cost * (1 - progress_of(array)) / array.plan.ranks;
      busy.passed = std::max(busy.passed, array.plan.passed);
    }
    room.busy.push_back(busy);
  }
  return room;
}

JobGroup Coordinator::group_of(const std::vector<int>& workers) const {
  const WorkerIntroduction& leader = peers_[static_cast<std::size_t>(workers.front())].introduction;
  const bool one_host = std::all_of(workers.begin(), workers.end(), [&](int rank) {
    return peers_[static_cast<std::size_t>(rank)].introduction.machine == leader.machine;
  });
  return {0, static_cast<std::int32_t>(workers.size()), leader.host, one_host};
}

std::string Coordinator::device_of(const RunningArray& array) const {
  std::vector<GroupSlot> slots;
  for (const int rank : array.workers) {
    const WorkerIntroduction& worker = peers_[static_cast<std::size_t>(rank)].introduction;
    slots.push_back({rank, worker.machine, worker.device});
  }
  return describe_members(slots);
}

void Coordinator::met(const Message& message, RunningArray& array) {
  if (message.payload.size() > kMaxAddressBytes)
    throw Error(ErrorKind::communication, "an address of " + std::to_string(message.payload.size()) + " bytes");
  if (array.met) return;
  array.met = true;
  meeting_may_be_over(array);
  for (const int rank : array.workers)
    if (rank != array.leader()) port_.send(rank, {MessageKind::join, {}, message.dispatch, message.payload});
}

void Coordinator::meeting_may_be_over(RunningArray& array) {
  if (array.met && array.begun == array.workers.size() && array.failing.empty()) array.due = Clock::time_point::max();
}

void Coordinator::worker_done(int rank, std::uint64_t number) {
  const auto found = running_.find(number);
  if (found == running_.end()) return;
  RunningArray& array = found->second;
  std::erase(peers_[static_cast<std::size_t>(rank)].queue, number);
  if (rank == array.leader()) {
    if (std::any_of(array.members.begin(), array.members.end(), [](const Member& m) { return !m.over; }))
      return array_crashed(number, "the trainer ended the array without the outcome of every member");
    array.leader_done = true;
    array.due = Clock::now() + kPartingLimit;
  }
  if (array.leader_done && !anyone_computes(number, array)) running_.erase(found);
}

void Coordinator::failure(int rank, const Message& message) {
  const FailureNotice notice = decode_failure(message.payload);
  if (notice.kind == to_string(ErrorKind::storage)) stop_for_storage(notice.reason);
  worker_crashed(rank, message.dispatch, notice.reason, notice.kind == to_string(ErrorKind::communication));
}

// Those of a group end themselves with this code when another one is gone and their GPU waits for it.
void Coordinator::trainer_lost(int rank, std::uint64_t number, const std::string& reason) {
  const std::string left = "exited with code " + std::to_string(exit_code(ErrorKind::communication));
  worker_crashed(rank, number, reason, reason.find(left) != std::string::npos);
}

// `hearsay`: it complains of another's silence. Then that one's own end is the reason worth telling, if it comes soon.
void Coordinator::worker_crashed(int rank, std::uint64_t number, const std::string& reason, bool hearsay) {
  const auto found = running_.find(number);
  if (found == running_.end()) return;
  RunningArray& array = found->second;
  const auto place = std::find(array.workers.begin(), array.workers.end(), rank);
  if (place == array.workers.end()) return;
  if (array.leader_done) return worker_done(rank, number);  // it had nothing more to give
  std::erase(peers_[static_cast<std::size_t>(rank)].queue, number);
  std::string text = reason;
  if (array.workers.size() > 1)
    text = "member " + std::to_string(place - array.workers.begin()) + " of its " +
           std::to_string(array.workers.size()) + " trainers (rank " + std::to_string(rank) + "): " + reason;
  if (array.workers.size() == 1 || !hearsay) return array_crashed(number, text);
  if (array.failing.empty()) {
    array.failing = text;
    array.due = Clock::now() + kHearsayLimit;
  }
  if (!anyone_computes(number, array)) array_crashed(number, std::string(array.failing));
}

bool Coordinator::anyone_computes(std::uint64_t number, const RunningArray& array) const {
  return std::any_of(array.workers.begin(), array.workers.end(), [&](int worker) {
    const auto& queue = peers_[static_cast<std::size_t>(worker)].queue;
    return std::find(queue.begin(), queue.end(), number) != queue.end();
  });
}

void Coordinator::abandon(int rank, std::uint64_t number) {
  Peer& peer = peers_[static_cast<std::size_t>(rank)];
  if (peer.lost) return;
  peer.ready = false;  // until it says otherwise
  port_.send(rank, {MessageKind::abandon, {}, number, ""});
}

void Coordinator::watch_groups(Clock::time_point now) {
  std::vector<std::uint64_t> late;
  for (const auto& [number, array] : running_)
    if (now > array.due) late.push_back(number);
  for (const std::uint64_t number : late) {
    const RunningArray& array = running_.at(number);
    if (array.leader_done) {
      remove_array(number);
      continue;
    }
    if (!array.failing.empty()) {
      array_crashed(number, std::string(array.failing));
      continue;
    }
    std::string reason = "its group of " + std::to_string(array.workers.size()) + " trainers did not meet within " +
                         std::to_string(static_cast<int>(settings_.meeting_limit_s)) + " s: ";
    reason += array.begun < array.workers.size()
                  ? std::to_string(array.workers.size() - array.begun) + " had not begun"
                  : "its leader (rank " + std::to_string(array.leader()) + ") did not say where";
    array_crashed(number, reason);
  }
}

// As check_group_sizes, of hosts that the front cannot look into. `worker` is not among the introduced yet.
void Coordinator::refuse_shared_gpu(const WorkerIntroduction& worker) const {
  if (!groups_ || !settings_.gpu || !settings_.one_numbering) return;
  const bool shared = std::any_of(peers_.begin() + 1, peers_.end(), [&](const Peer& peer) {
    return peer.introduced && peer.introduction.machine == worker.machine && peer.introduction.device == worker.device;
  });
  if (!shared) return;
  for (std::int32_t number = 0; number < fits_ + trials_; ++number)
    if (!scheduler_->over(number) && scheduler_->item(number).ranks > 1)
      throw Error(ErrorKind::config,
                  "resources.ranks_per_trial: a trial over several GPUs needs each for itself, and " + worker.host +
                      " has two slots on its " + worker.device + ": give no host more slots than it has GPUs");
}

void Coordinator::give_up_too_large() {
  const auto slots = std::count_if(peers_.begin() + 1, peers_.end(), [](const Peer& peer) { return !peer.lost; });
  scheduler_->set_slots(static_cast<int>(slots));
  for (const std::int32_t number : scheduler_->give_up_too_large()) {
    const std::string reason = "it needs " + std::to_string(scheduler_->item(number).ranks) +
                               " slots at once (resources.ranks_per_trial), and " + std::to_string(slots) +
                               (slots == 1 ? " is" : " are") + " left: " + last_loss_;
    fail_unstarted(number, reason);
    unit_failed(number, reason);
  }
}

}  // namespace tenfold

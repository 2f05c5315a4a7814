#include "runner/coordinator.h"

#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "datasets/dataset.h"
#include "experiments/error.h"
#include "experiments/fault_point.h"
#include "runner/hosts.h"

namespace tenfold {
namespace {

constexpr auto kTick = std::chrono::milliseconds(100);
constexpr auto kProblems = std::chrono::seconds(1);
// A turn waits for nobody; more than a drain may take is no turn any more.
constexpr double kStuckLimit_s = 600, kStuckLimitTerminated_s = 10;
constexpr std::size_t kHoldAboveBytes = std::size_t{64} << 20;
constexpr std::size_t kReleaseBelowBytes = std::size_t{32} << 20;

double seconds(std::chrono::steady_clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

std::string reason_in(const std::string& payload) {
  const auto json = nlohmann::json::parse(payload, nullptr, false);
  return json.is_object() && json.contains("reason") && json["reason"].is_string() ? json["reason"].get<std::string>()
                                                                                   : "no reason was given";
}

}  // namespace

Coordinator::Coordinator(const PreparedExperiment& prepared, RegisteredPlan registered, StoreWriter& writer,
                         MessagePort& port, FrontLink& front, CoordinatorSettings settings)
    : prepared_(prepared),
      writer_(writer),
      port_(port),
      front_(front),
      settings_(std::move(settings)),
      checkpoints_(settings_.checkpoint_folder, [this](const std::string& file) { return hash_of(file); }),
      jobs_(prepared.experiment, prepared.plan, checkpoints_, cache_folder().string(), settings_.empty_trials),
      peers_(static_cast<std::size_t>(port.size())),
      begun_(Clock::now()) {
  last_tick_ = last_problems_ = last_heartbeat_ = last_report_ = begun_;
  latest_.total = latest_.entropy = latest_.diversity = std::numeric_limits<double>::quiet_NaN();
  for (Peer& peer : peers_) peer.last_heard = begun_;
  load_units(std::move(registered));
}

RunOutcome Coordinator::run() {
  report_progress(Clock::now());  // the front knows from it that the run has begun
  watch_.emplace(kStuckLimit_s, kStuckLimitTerminated_s);
  while (!finished()) {
    watch_->turn();
    port_.progress();
    bool active = false;
    while (const auto received = port_.next()) {
      const Message& message = received->message;
      active |= message.kind != MessageKind::heartbeat &&
                !(message.kind == MessageKind::frame && message.frame == FrameType::heartbeat);
      handle(*received);
    }
    feed();
    tick(Clock::now());
    std::vector<pollfd> sockets{{front_.fd(), POLLIN, 0}};
    pacer_.wait(active, sockets);
  }
  if (draining_) end_drain();
  dismiss_workers();
  commit_everything();
  watch_.reset();
  if (!storage_problem_.empty()) throw Error(ErrorKind::storage, storage_problem_);
  last_commit_ = Clock::now();
  fault_point("finish");
  return outcome();
}

bool Coordinator::finished() const {
  if (draining_) return running_.empty() || Clock::now() > drain_until_;
  return trials_done_ + trials_failed_ == trials_ && running_.empty();
}

void Coordinator::handle(const Received& received) {
  const int rank = received.rank;
  const Message& message = received.message;
  Peer& peer = peers_[static_cast<std::size_t>(rank)];
  if (peer.lost) return;
  peer.last_heard = Clock::now();
  switch (message.kind) {
    case MessageKind::hello:
      peer.introduction = decode_introduction(message.payload);
      refuse_shared_gpu(peer.introduction);
      peer.introduced = true;
      if (!peer.introduction.note.empty()) {
        const std::string note = peer.introduction.host + ": " + peer.introduction.note;
        front_.note(note);
        writer_.submit(AddEvent{std::nullopt, "gpu_sharing", note});
      }
      break;
    case MessageKind::started:
      started(rank, message.dispatch, message.payload);
      break;
    case MessageKind::dropped:
      dropped(rank, message.dispatch);
      break;
    case MessageKind::frame:
      frame(rank, message);
      break;
    case MessageKind::trainer_lost:
      peer.ready = false;
      if (message.dispatch != 0) trainer_lost(rank, message.dispatch, reason_in(message.payload));
      break;
    case MessageKind::abandoned:
      peer.ready = true;
      break;
    case MessageKind::trainer_unusable:
      lose_worker(rank, "its trainer cannot be started: " + reason_in(message.payload));
      break;
    default:  // a heartbeat has done its duty by arriving
      break;
  }
}

void Coordinator::tick(Clock::time_point now) {
  if (now - last_tick_ < kTick) return;
  last_tick_ = now;
  if (const auto frozen = frozen_.take(now); frozen > Clock::duration::zero()) forgive(frozen);
  drain_when_asked();
  drain_when_all_is_held_back();
  if (front_.gone()) throw Error(ErrorKind::communication, "the front process is gone");

  const std::size_t queued = writer_.queued_bytes();
  if (!holding_ && queued > kHoldAboveBytes) holding_ = true;
  if (holding_ && queued < kReleaseBelowBytes) {
    holding_ = false;
    for (Peer& peer : peers_) peer.last_heard = now;  // their silence was our doing
  }
  port_.hold_receives(holding_);
  if (!holding_) watch_peers(now);
  if (groups_) watch_groups(now);

  if (now - last_problems_ >= kProblems) {
    last_problems_ = now;
    for (const std::string& problem : writer_.take_problems()) storage_trouble(problem);
  }
  give_signs_of_life(now);
}

void Coordinator::forgive(Clock::duration silence) {
  const Clock::time_point now = Clock::now();
  for (Peer& peer : peers_) peer.last_heard = now;
  for (auto& [number, array] : running_)
    if (array.due != Clock::time_point::max()) array.due += silence;
  port_.forgive(silence);
  if (draining_) drain_until_ = std::max(drain_until_, now + drain_limit());
  frozen_.take(now);
}

void Coordinator::watch_peers(Clock::time_point now) {
  static const std::string here = this_machine();
  for (int rank = 1; rank < port_.size(); ++rank) {
    const Peer& peer = peers_[static_cast<std::size_t>(rank)];
    if (peer.lost) continue;
    // On this host the kernel knows at once; elsewhere only silence tells.
    const bool dead = peer.introduced && peer.introduction.machine == here &&
                      ::kill(static_cast<pid_t>(peer.introduction.pid), 0) != 0 && errno == ESRCH;
    if (dead) {
      // What it sent before it died has arrived: it is read before the worker is written off.
      if (!port_.progress()) lose_worker(rank, "its process died");
    } else if (seconds(now - peer.last_heard) > settings_.peer_silence_s) {
      lose_worker(rank, "it was silent for " + std::to_string(static_cast<int>(settings_.peer_silence_s)) + " s");
    } else if (port_.stuck_s(rank) > settings_.peer_silence_s) {
      lose_worker(rank, "it takes no messages");
    }
  }
}

void Coordinator::lose_worker(int rank, const std::string& reason) {
  Peer& peer = peers_[static_cast<std::size_t>(rank)];
  peer.lost = true;
  // If it only slept, it shall end when it wakes; whatever it still sends is fenced by `lost`.
  port_.send(rank, {MessageKind::finish, {}, 0, ""});
  port_.progress();
  port_.drop_peer(rank);
  last_loss_ = "worker " + std::to_string(rank) + " is written off: " + reason;
  front_.note(last_loss_);
  writer_.submit(AddEvent{std::nullopt, "worker_lost", last_loss_});
  for (const std::uint64_t dispatch : std::deque<std::uint64_t>(peer.queue)) {
    const auto found = running_.find(dispatch);
    if (found == running_.end()) continue;
    for (Member& member : found->second.members) {
      if (member.over) continue;
      member.over = true;
      const std::int64_t step = usable_resume_step(member.unit);
      const auto given_up = scheduler_->worker_lost(member.unit, step);
      end_attempt(member, TrialStatus::failed, given_up ? TrialStatus::failed : TrialStatus::pending, last_loss_);
      if (given_up) unit_failed(member.unit, last_loss_);
    }
    std::erase(peer.queue, dispatch);
    remove_array(dispatch);  // with the others of its group
  }
  peer.queue.clear();
  const bool any_left = std::any_of(peers_.begin() + 1, peers_.end(), [](const Peer& p) { return !p.lost; });
  if (!any_left && !finished())
    throw Error(ErrorKind::communication, "no worker is left; " + last_loss_ +
                                              ". Everything so far is kept: run the same command again to go on");
}

// Asked also while draining: mpirun sends its signal more than once, and one that nobody takes means that we are stuck.
void Coordinator::drain_when_asked() {
  const std::string asked_by = front_.drain_requested();
  if (!asked_by.empty() && !draining_ && !dismissed_) begin_drain("asked by " + asked_by + " to stop at the next step");
}

void Coordinator::begin_drain(const std::string& why) {
  draining_ = true;
  drain_began_ = Clock::now();
  drain_until_ = drain_began_ + drain_limit();
  writer_.submit(AddEvent{std::nullopt, "drain", why});
  port_.send_to_workers(MessageKind::drain);
}

Coordinator::Clock::duration Coordinator::drain_limit() const {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(settings_.drain_limit_s));
}

void Coordinator::end_drain() {
  drained_ = trials_done_ + trials_failed_ < trials_;
  for (auto& [dispatch, array] : running_)
    for (Member& member : array.members)
      if (!member.over) end_attempt(member, TrialStatus::stopped, TrialStatus::stopped, "stopped before its next step");
  running_.clear();
}

void Coordinator::report_progress(Clock::time_point now) {
  last_report_ = now;
  ProgressSnapshot snapshot;
  snapshot.fits_total = fits_total_;
  snapshot.fits_done = fits_done_;
  snapshot.trials_total = trials_;
  snapshot.trials_done = trials_done_;
  snapshot.trials_failed = trials_failed_;
  snapshot.elapsed_s = seconds(now - begun_);
  snapshot.total = latest_.total;
  snapshot.entropy = latest_.entropy;
  snapshot.diversity = latest_.diversity;
  for (const Peer& peer : peers_)
    if (&peer != &peers_[0] && !peer.lost) ++snapshot.slots;
  for (const auto& [dispatch, array] : running_) {
    if (!array.started) continue;
    ++snapshot.arrays_running;
    snapshot.slots_busy += static_cast<std::int64_t>(array.workers.size());
    snapshot.updates_per_s += std::isfinite(array.progress.updates_per_s) ? array.progress.updates_per_s : 0;
  }
  const Scheduler::Progressed done = progressed();
  const double cost[2] = {remaining_cost_[0] - done.fits, remaining_cost_[1] - done.trials};
  const double fits_s = costs_.expected_s(Stage::fit, cost[0]), trials_s = costs_.expected_s(Stage::adapt, cost[1]);
  if (fits_s >= 0 && trials_s >= 0 && snapshot.slots > 0)
    snapshot.eta_s = (fits_s + trials_s) / static_cast<double>(snapshot.slots);
  front_.progress(snapshot);
}

void Coordinator::dismiss_workers() {
  report_progress(Clock::now());
  dismissed_ = true;
  port_.send_to_workers(MessageKind::finish);
  const Clock::time_point limit = Clock::now() + std::chrono::seconds(1);
  std::vector<pollfd> none;
  while (!port_.all_sent() && Clock::now() < limit) {
    const bool active = port_.progress();
    while (port_.next()) {
    }
    pacer_.wait(active, none);
  }
}

RunOutcome Coordinator::outcome() const {
  RunOutcome outcome;
  outcome.trials = trials_;
  outcome.trials_done = trials_done_;
  outcome.trials_failed = trials_failed_;
  outcome.drained = drained_;
  if (first_dispatch_ != Clock::time_point{}) outcome.elapsed_s = seconds(last_commit_ - first_dispatch_);
  return outcome;
}

bool Coordinator::lost_any_worker() const {
  return std::any_of(peers_.begin() + 1, peers_.end(), [](const Peer& peer) { return peer.lost; });
}

}  // namespace tenfold

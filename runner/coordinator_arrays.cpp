#include <algorithm>
#include <nlohmann/json.hpp>

#include "experiments/error.h"
#include "experiments/fault_point.h"
#include "runner/coordinator.h"
#include "runner/group_members.h"
#include "runner/progress.h"
#include "trainer/protocol_checkpoint.h"

// Arrays on their way: from the scheduler to a worker, and what comes back of them.
namespace tenfold {
namespace {

// A second array waits at the worker only when the first is over so soon that our latency would show; a longer one
// would rather be given to whichever slot is free first.
constexpr double kShortArray_s = 0.25;
constexpr double kMemoryShare = 0.5;  // of a device, for an array; the rest is data, workspace and graphs

}  // namespace

void Coordinator::feed() {
  if (groups_ && lost_any_worker()) give_up_too_large();
  while (!draining_ && scheduler_->has_ready()) {
    const std::vector<int> idle = idle_workers();
    if (idle.empty()) break;
    auto planned = scheduler_->next(progressed(), room(idle));
    if (!planned) break;
    withhold_orphans(*planned);
    if (planned->units.empty()) continue;
    std::vector<GroupSlot> slots;
    for (const int rank : idle) {
      const WorkerIntroduction& worker = peers_[static_cast<std::size_t>(rank)].introduction;
      slots.push_back({rank, worker.machine, worker.device});
    }
    if (!reaches_a_checkpoint(*planned)) continue;
    dispatch(choose_members(slots, planned->ranks), std::move(*planned));
  }
  for (int rank = 1; rank < port_.size(); ++rank)
    if (!feed_ahead(rank)) return;
}

// A second array for a worker; false: nobody gets one now.
bool Coordinator::feed_ahead(int rank) {
  Peer& peer = peers_[static_cast<std::size_t>(rank)];
  if (draining_ || !scheduler_->has_ready() || scheduler_->next_is_group()) return false;
  if (!peer.ready || peer.lost || peer.queue.size() != 1) return true;
  const RunningArray& first = running_.at(peer.queue.front());
  if (first.workers.size() > 1) return true;
  if (!settings_.empty_trials && (first.expected_s < 0 || first.expected_s > kShortArray_s)) return true;
  auto planned = scheduler_->next(progressed(), Room{1, {}});
  if (!planned) return false;
  withhold_orphans(*planned);
  if (!planned->units.empty() && reaches_a_checkpoint(*planned)) dispatch({rank}, std::move(*planned));
  return true;
}

double Coordinator::progress_of(const RunningArray& array) const {
  if (array.progress.steps <= 0) return 0;
  return std::clamp(static_cast<double>(array.progress.step) / static_cast<double>(array.progress.steps), 0.0, 1.0);
}

Scheduler::Progressed Coordinator::progressed() const {
  Scheduler::Progressed result;
  for (const auto& [number, array] : running_) {
    const double share = progress_of(array);
    if (share <= 0) continue;
    for (const Member& member : array.members)
      if (!member.over)
        (is_fit(member.unit) ? result.fits : result.trials) += share * scheduler_->item(member.unit).cost;
  }
  return result;
}

void Coordinator::dispatch(std::vector<int> workers, PlannedArray planned) {
  const std::uint64_t number = next_dispatch_++;
  if (first_dispatch_ == Clock::time_point{}) first_dispatch_ = Clock::now();
  RunningArray array;
  for (const std::int32_t u : planned.units) {
    array.members.push_back({u, 0, planned.resume_step, false});
    const double expected = costs_.expected_s(scheduler_->item(u));
    array.expected_s = expected < 0 || (array.expected_s < 0 && array.members.size() > 1)
                           ? -1
                           : std::max(array.expected_s, 0.0) + expected;
  }
  fault_point("dispatch");
  ArrayJob job = jobs_.build(planned, units_, number);
  job.group = group_of(workers);
  for (const int rank : workers) {
    port_.send(rank, {MessageKind::job, {}, number, encode(job)});
    ++job.group.rank;
    peers_[static_cast<std::size_t>(rank)].queue.push_back(number);
  }
  if (workers.size() > 1)
    array.due = Clock::now() +
                std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(settings_.meeting_limit_s));
  array.workers = std::move(workers);
  array.plan = std::move(planned);
  running_.emplace(number, std::move(array));
  fault_point("dispatched");
}

// The attempts of a group begin with the first of its workers.
void Coordinator::started(int rank, std::uint64_t number, const std::string& payload) {
  const auto found = running_.find(number);
  if (found == running_.end()) return;
  RunningArray& array = found->second;
  const auto json = nlohmann::json::parse(payload, nullptr, false);
  if (json.is_object() && json.contains("pid") && json["pid"].is_number_integer())
    peers_[static_cast<std::size_t>(rank)].trainer_pid = json["pid"].get<std::int64_t>();
  ++array.begun;
  meeting_may_be_over(array);
  if (array.started) return;
  array.started = true;
  array.started_at = Clock::now();
  const Peer& peer = peers_[static_cast<std::size_t>(array.leader())];
  for (Member& member : array.members) {
    AttemptStart start;
    start.rank = array.leader();
    start.host = peer.introduction.host;
    start.pid = peer.trainer_pid;
    start.device = device_of(array);
    start.slot = peer.introduction.slot;
    start.log = peer.introduction.log;
    begin_attempt(member, std::move(start));
  }
}

void Coordinator::dropped(int rank, std::uint64_t number) {
  const auto found = running_.find(number);
  if (found == running_.end()) return;
  RunningArray& array = found->second;
  if (array.workers.size() == 1 && array.started) return;
  // A drain found one worker of a group before its start, another perhaps behind it: together they cannot go on.
  for (Member& member : array.members)
    if (!member.over) end_attempt(member, TrialStatus::stopped, TrialStatus::stopped, "stopped before its next step");
  std::erase(peers_[static_cast<std::size_t>(rank)].queue, number);
  remove_array(number);
}

void Coordinator::trainer_ready(int rank, const std::string& payload) {
  Peer& peer = peers_[static_cast<std::size_t>(rank)];
  const ReadyNotice notice = decode_ready(payload);
  peer.ready = true;
  peer.trainer_pid = notice.pid;
  if (!settings_.gpu) return;
  const auto sharing = std::count_if(peers_.begin() + 1, peers_.end(), [&](const Peer& other) {
    return other.introduced && other.introduction.host == peer.introduction.host &&
           other.introduction.device == peer.introduction.device;
  });
  const double share = kMemoryShare * static_cast<double>(notice.memory_bytes) /
                       static_cast<double>(std::max<std::ptrdiff_t>(1, sharing));
  smallest_memory_ = smallest_memory_ > 0 ? std::min(smallest_memory_, share) : share;
  scheduler_->set_array_memory(smallest_memory_);
}

void Coordinator::frame(int rank, const Message& message) {
  Peer& peer = peers_[static_cast<std::size_t>(rank)];
  if (message.frame == FrameType::ready) {
    trainer_ready(rank, message.payload);
    return;
  }
  // The fence: an array that was given to somebody else, or is over, has no number here any more.
  const auto found = running_.find(message.dispatch);
  if (found == running_.end()) return;
  RunningArray& array = found->second;
  const bool leads = array.leader() == rank;
  if (!leads && std::find(array.workers.begin(), array.workers.end(), rank) == array.workers.end()) return;
  if (!leads && message.frame != FrameType::job_done && message.frame != FrameType::failure) return;
  try {
    switch (message.frame) {
      case FrameType::heartbeat:
        array.progress = decode_progress(message.payload);
        note_pace(array);
        if (array.plan.stage == Stage::adapt && has_losses(array.progress)) latest_ = array.progress;
        break;
      case FrameType::rows:
        rows(array, message.payload);
        break;
      case FrameType::checkpoint:
        checkpoint(array, message.payload);
        break;
      case FrameType::member_done:
        member_outcome(array, decode_outcome(message.payload));
        break;
      case FrameType::meeting:
        met(message, array);
        break;
      case FrameType::job_done:
        worker_done(rank, message.dispatch);
        break;
      case FrameType::failure:
        peer.ready = false;  // the worker replaces it
        failure(rank, message);
        break;
      default:
        break;
    }
  } catch (const Error& error) {
    // Nonsense from a trainer costs its worker, not the run; an error of the store is ours.
    if (error.kind() != ErrorKind::communication) throw;
    lose_worker(rank, std::string("its trainer sent what cannot be read: ") + error.what());
  }
}

void Coordinator::rows(RunningArray& array, const std::string& payload) {
  RowBlock block = decode_rows(payload);
  if (block.header.member >= array.members.size())
    throw Error(ErrorKind::communication, "rows of a member that the array does not have");
  const Member& member = array.members[block.header.member];
  if (member.over || member.attempt == 0) return;
  const RowId id = unit(member.unit).id;
  const bool fit = is_fit(member.unit);
  switch (block.header.kind) {
    case RowKind::train_step:
      if (!fit) throw Error(ErrorKind::communication, "training steps of a trial");
      writer_.submit(AddTrainSteps{id, std::move(block.train_steps)});
      break;
    case RowKind::ttt_step:
      if (fit) throw Error(ErrorKind::communication, "adaptation steps of a fit");
      writer_.submit(AddTttSteps{id, std::move(block.ttt_steps)});
      break;
    case RowKind::evaluation:
      writer_.submit(AddEvaluations{kind(member.unit), id, std::move(block.evaluations)});
      break;
    case RowKind::inner_loss:
      writer_.submit(AddInnerLosses{kind(member.unit), id, std::move(block.inner_losses)});
      break;
    case RowKind::gate:
      writer_.submit(AddGates{kind(member.unit), id, std::move(block.gates)});
      break;
    case RowKind::position_loss:
      writer_.submit(AddPositionLosses{kind(member.unit), id, std::move(block.position_losses)});
      break;
    case RowKind::group_step:
      if (!fit) throw Error(ErrorKind::communication, "steps of parameter groups of a trial");
      writer_.submit(AddGroupSteps{id, std::move(block.group_steps)});
      break;
    case RowKind::pair_score:
      if (fit) throw Error(ErrorKind::communication, "scores of minimal pairs of a fit");
      writer_.submit(AddPairScores{id, std::move(block.pair_scores)});
      break;
  }
}

void Coordinator::checkpoint(RunningArray& array, const std::string& payload) {
  const CheckpointNotice notice = decode_checkpoint(payload);
  if (const auto reason = why_left_out(notice)) {
    checkpoint_failed(array, notice.step, *reason);
    return;
  }
  const std::filesystem::path path = notice.path;
  if (path.parent_path() != checkpoints_.folder())
    throw Error(ErrorKind::communication, "a checkpoint outside of " + checkpoints_.folder().string());
  const CheckpointSpec& wanted = jobs_.checkpoint_spec();
  const std::string file = path.filename().string();
  checkpoints_.trust(file);
  for (std::size_t i = 0; i < notice.members.size(); ++i) {
    const auto index = static_cast<std::size_t>(notice.members[i]);
    if (notice.members[i] < 0 || index >= array.members.size())
      throw Error(ErrorKind::communication, "a checkpoint of a member that the array does not have");
    const Member& member = array.members[index];
    if (member.over || member.attempt == 0) continue;
    CheckpointRecord record;
    record.kind = kind(member.unit);
    record.unit = unit(member.unit).id;
    record.attempt = static_cast<RowId>(member.attempt);
    record.file = {file, static_cast<std::int64_t>(i), notice.step, notice.sha256, notice.bytes};
    record.keep = wanted.keep;
    record.keep_every_steps = wanted.keep_every_steps.value_or(0);
    std::vector<StoredCheckpoint>& kept = unit(member.unit).checkpoints;
    std::erase_if(kept, [&](const StoredCheckpoint& c) { return c.step >= notice.step; });
    kept.insert(kept.begin(), record.file);
    if (kept.size() > static_cast<std::size_t>(std::max(1, wanted.keep))) kept.pop_back();
    writer_.submit(std::move(record));
  }
}

void Coordinator::member_outcome(RunningArray& array, const MemberOutcome& outcome) {
  if (outcome.member < 0 || static_cast<std::size_t>(outcome.member) >= array.members.size())
    throw Error(ErrorKind::communication, "the outcome of a member that the array does not have");
  Member& member = array.members[static_cast<std::size_t>(outcome.member)];
  if (member.over) return;
  member.over = true;
  const bool was_alone = array.members.size() == 1;
  switch (outcome.status) {
    case TrialStatus::done:
      if (member.resumed_from_step < 0)
        costs_.observe(scheduler_->item(member.unit), outcome.wall_s * array.plan.ranks);
      end_attempt(member, TrialStatus::done, TrialStatus::done, outcome.reason,
                  outcome);  // a guard may have stopped it
      if (outcome.nonfinite) note_kept(member.unit, outcome.reason);
      unit_done(member.unit);
      break;
    case TrialStatus::stopped:
      end_attempt(member, TrialStatus::stopped, TrialStatus::stopped, outcome.reason, outcome);
      scheduler_->returned(member.unit);
      if (!draining_) make_unit_ready(member.unit);
      break;
    default: {
      if (lower_rate(member, outcome)) break;
      std::string reason = outcome.reason;
      if (outcome.nonfinite) reason += lowered_in_vain(unit(member.unit).rate);
      std::optional<std::int32_t> given_up = member.unit;
      if (outcome.retry)
        given_up = scheduler_->member_failed(member.unit, usable_resume_step(member.unit), was_alone);
      else
        scheduler_->finished(member.unit);
      end_attempt(member, TrialStatus::failed, given_up ? TrialStatus::failed : TrialStatus::pending, reason, outcome);
      if (given_up)
        unit_failed(member.unit, reason);
      else
        note_retry(member.unit, reason);
    }
  }
}

// on_nonfinite.policy lower_rate: the member leaves its array and is computed alone with a lower rate, from its last
// checkpoint; from the one before where that was tried already, for it may hold what diverges.
bool Coordinator::lower_rate(Member& member, const MemberOutcome& outcome) {
  const NonFiniteSpec& policy = prepared_.experiment.base().on_nonfinite;
  Unit& u = unit(member.unit);
  if (!outcome.nonfinite || policy.policy != "lower_rate" || u.rate.times >= policy.times) return false;
  // A drain may have made one of what is not finite by now.
  const std::int64_t failed_at = is_fit(member.unit) ? outcome.steps : outcome.steps - 1;
  std::erase_if(u.checkpoints, [&](const StoredCheckpoint& c) { return c.step >= failed_at; });
  std::int64_t step = usable_resume_step(member.unit);
  if (u.rate.times > 0 && step >= 0 && step == u.rate.from_step) {
    u.checkpoints.erase(u.checkpoints.begin());
    step = usable_resume_step(member.unit);
  }
  u.rate = {u.rate.scale * policy.factor, u.rate.times + 1, step};
  end_attempt(member, TrialStatus::failed, TrialStatus::pending, outcome.reason, outcome, u.rate);
  scheduler_->try_alone(member.unit, step);
  note_lowering(member.unit, outcome.reason);
  return true;
}

void Coordinator::array_crashed(std::uint64_t number, const std::string& reason) {
  const auto found = running_.find(number);
  if (found == running_.end()) return;
  RunningArray& array = found->second;
  std::vector<std::int32_t> left;
  std::vector<std::int64_t> steps;
  std::vector<Member*> members;
  look_again_at_files_of(array);
  for (Member& member : array.members) {
    if (member.over) continue;
    member.over = true;
    if (!draining_ && has_lost_its_fit(member.unit)) {
      end_attempt(member, TrialStatus::failed, TrialStatus::pending, reason);
      continue;
    }
    members.push_back(&member);
    left.push_back(member.unit);
    if (!draining_) steps.push_back(usable_resume_step(member.unit));
  }
  if (draining_) {
    // It will be tried again by the next run.
    for (Member* member : members) end_attempt(*member, TrialStatus::failed, TrialStatus::pending, reason);
    remove_array(number);
    return;
  }
  const auto given_up = scheduler_->crashed(left, steps, array.members.size() == 1);
  for (Member* member : members)
    end_attempt(*member, TrialStatus::failed, given_up ? TrialStatus::failed : TrialStatus::pending, reason);
  if (given_up)
    unit_failed(*given_up, reason);
  else if (left.size() == 1)
    note_retry(left[0], reason);
  else if (!left.empty())
    note_halving(left, reason);
  remove_array(number);
}

void Coordinator::remove_array(std::uint64_t number) {
  const auto found = running_.find(number);
  if (found == running_.end()) return;
  for (const int rank : found->second.workers) {
    std::deque<std::uint64_t>& queue = peers_[static_cast<std::size_t>(rank)].queue;
    const bool unfinished = std::erase(queue, number) > 0;
    if (unfinished && found->second.workers.size() > 1) abandon(rank, number);
  }
  running_.erase(found);
}

}  // namespace tenfold

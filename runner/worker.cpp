#include "runner/worker.h"

#include <signal.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "experiments/error.h"
#include "experiments/fault_point.h"
#include "runner/rank_settings.h"
#include "runner/stuck_watch.h"

namespace tenfold {
namespace {

constexpr std::size_t kRelayLimitBytes = std::size_t{2} << 20;  // unsent; above it the trainer has to wait
constexpr std::size_t kReadAtOnceBytes = std::size_t{1} << 20;
constexpr int kFailedStarts = 3;
constexpr auto kHeartbeat = std::chrono::seconds(1);
constexpr auto kTick = std::chrono::milliseconds(100);
// After a TERM that is not ours the coordinator may still be draining, and then it says so every second; if it does
// not, our host was cut off from it, or it is gone.
constexpr auto kGraceAfterTerm = std::chrono::seconds(12);
constexpr double kSilenceAfterTerm_s = 2;
constexpr double kFirstWordLimits = 2;  // as many times the limit: MPI may be slow to connect the two

}  // namespace

Worker::Worker(MessagePort& port, Trainer& trainer, SignalReceiver& signals, WorkerIntroduction introduction,
               std::function<bool()> orphaned)
    : port_(port),
      trainer_(trainer),
      signals_(signals),
      introduction_(std::move(introduction)),
      orphaned_(std::move(orphaned)),
      silence_s_(peer_silence_s()) {
  last_heard_ = last_tick_ = last_heartbeat_ = Clock::now();
}

bool Worker::run() {
  send(MessageKind::hello, 0, encode(introduction_));
  if (!trainer_.running()) replace_trainer("it has not been started", false);
  StuckWatch watch(3 * silence_s_, kSilenceAfterTerm_s);
  while (!finished_ && !abandoned_) {
    watch.turn();
    if (const auto frozen = frozen_.take(); frozen > Clock::duration::zero()) forgive(frozen);
    port_.progress();
    bool active = port_.unsent_bytes(0) > 2 * kChunkBytes;
    while (auto received = port_.next()) {
      active |= received->message.kind != MessageKind::heartbeat;
      last_heard_ = Clock::now();
      heard_ = true;
      handle(std::move(received->message));
    }
    active |= listen_to_trainer();
    tick(Clock::now());

    std::vector<pollfd> sockets{{signals_.fd(), POLLIN, 0}};
    const bool may_read = port_.unsent_bytes(0) < kRelayLimitBytes;
    if (trainer_.fd() >= 0) {
      const short events = static_cast<short>((may_read ? POLLIN : 0) | (trainer_.wants_write() ? POLLOUT : 0));
      sockets.push_back({trainer_.fd(), events, 0});
    }
    pacer_.wait(active, sockets);
  }
  return finished_;
}

void Worker::send(MessageKind kind, std::uint64_t dispatch, std::string payload, FrameType frame) {
  port_.send(0, Message{kind, frame, dispatch, std::move(payload)});
}

void Worker::handle(Message message) {
  switch (message.kind) {
    case MessageKind::job:
      if (draining_) {
        send(MessageKind::dropped, message.dispatch);
      } else {
        queue_.push_back({message.dispatch, std::move(message.payload), {}});
        start_next_job();
      }
      break;
    case MessageKind::drain:
      drain();
      break;
    case MessageKind::join:
      join(message);
      break;
    case MessageKind::abandon:
      abandon(message.dispatch);
      break;
    case MessageKind::finish:
      finished_ = true;
      break;
    default:  // a heartbeat has done its duty by arriving
      break;
  }
}

void Worker::start_next_job() {
  if (current_ != 0 || queue_.empty() || !trainer_.ready()) return;
  Job job = std::move(queue_.front());
  queue_.pop_front();
  current_ = job.dispatch;
  fault_point("start");
  trainer_.send(FrameType::job, job.dispatch, job.payload);
  if (!job.join.empty()) trainer_.send(FrameType::join, job.dispatch, job.join);
  send(MessageKind::started, job.dispatch, nlohmann::json{{"pid", trainer_.pid()}}.dump());
}

void Worker::join(const Message& message) {
  if (current_ == message.dispatch) {
    trainer_.send(FrameType::join, message.dispatch, message.payload);
    return;
  }
  for (Job& job : queue_)
    if (job.dispatch == message.dispatch) job.join = message.payload;
}

// Nothing of this dispatch is sent after this. The coordinator waits for a trainer that is ready.
void Worker::abandon(std::uint64_t dispatch) {
  std::erase_if(queue_, [&](const Job& job) { return job.dispatch == dispatch; });
  if (current_ == dispatch && dispatch != 0) {
    trainer_.kill();
    current_ = 0;
    if (!draining_) replace_trainer("its group was given up", false);
  } else if (trainer_.ready() && current_ == 0) {
    send(MessageKind::abandoned, dispatch);
  }
}

void Worker::drain() {
  draining_ = true;
  for (const Job& job : queue_) send(MessageKind::dropped, job.dispatch);
  queue_.clear();
  if (current_ != 0) trainer_.send(FrameType::drain, current_, "");
}

bool Worker::listen_to_trainer() {
  if (!trainer_.running()) return false;
  trainer_.flush();
  if (port_.unsent_bytes(0) >= kRelayLimitBytes) {
    trainer_.not_listening();
    return false;
  }
  trainer_.receive(kReadAtOnceBytes);
  bool any = false;
  while (auto frame = trainer_.next()) {
    any |= frame->type != FrameType::heartbeat;
    relay(*frame);
    if (!trainer_.running()) break;
  }
  if (const auto reason = trainer_.lost()) {
    replace_trainer(*reason, true);
    any = true;
  }
  return any;
}

void Worker::relay(const Frame& frame) {
  if (frame.type == FrameType::ready) {
    failed_starts_ = 0;
    send(MessageKind::frame, 0, frame.payload, frame.type);
    start_next_job();
    return;
  }
  if (current_ == 0 || (frame.attempt != current_ && frame.type != FrameType::heartbeat)) return;
  if (frame.type == FrameType::checkpoint) fault_point("relay");
  send(MessageKind::frame, current_, frame.payload, frame.type);
  if (frame.type == FrameType::job_done) {
    current_ = 0;
    start_next_job();
  } else if (frame.type == FrameType::failure) {
    // Out of memory, a sticky device error: whatever is left of it is not to be trusted.
    current_ = 0;
    trainer_.kill();
    replace_trainer("it gave up an array", false);
  }
}

void Worker::replace_trainer(const std::string& reason, bool tell) {
  if (tell) send(MessageKind::trainer_lost, current_, nlohmann::json{{"reason", reason}}.dump());
  current_ = 0;
  std::string problem = reason;
  while (++failed_starts_ <= kFailedStarts) {
    try {
      trainer_.start();
      return;
    } catch (const Error& error) {
      problem = error.what();
    }
  }
  unusable_ = true;
  send(MessageKind::trainer_unusable, 0, nlohmann::json{{"reason", problem}}.dump());
}

void Worker::forgive(Clock::duration silence) {
  last_heard_ = std::min(Clock::now(), last_heard_ + silence);
  if (leave_by_ != Clock::time_point::max()) leave_by_ += silence;
  trainer_.forgive(silence);
}

void Worker::tick(Clock::time_point now) {
  if (now - last_tick_ < kTick) return;
  last_tick_ = now;
  while (const auto signal = signals_.next())
    if (*signal == SIGTERM || *signal == SIGINT || *signal == SIGHUP)
      leave_by_ = std::min(leave_by_, now + kGraceAfterTerm);
  if (orphaned_() || now > leave_by_) abandoned_ = true;
  const bool terminated = leave_by_ != Clock::time_point::max();
  const double limit_s = !heard_      ? kFirstWordLimits * silence_s_
                         : terminated ? std::min(silence_s_, kSilenceAfterTerm_s)
                                      : silence_s_;
  if (std::chrono::duration<double>(now - last_heard_).count() > limit_s) abandoned_ = true;
  if (now - last_heartbeat_ >= kHeartbeat) {
    last_heartbeat_ = now;
    send(MessageKind::heartbeat);
    trainer_.send(FrameType::alive, 0, "");
  }
}

}  // namespace tenfold

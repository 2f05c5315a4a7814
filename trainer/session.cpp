#include "trainer/session.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "experiments/error.h"
#include "experiments/fault_point.h"
#include "experiments/frozen_time.h"

namespace tenfold {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// Rows of many members fill small blocks; together they may wait up to this.
constexpr std::size_t kMaxWaitingBytes = std::size_t{1} << 20;

// By kind.
constexpr std::size_t kRowBytes[kRowKinds] = {sizeof(TrainStepRow), sizeof(TttStepRow),  sizeof(EvaluationRow),
                                              sizeof(InnerLossRow), sizeof(GateRow),     sizeof(PositionLossRow),
                                              sizeof(GroupStepRow), sizeof(PairScoreRow)};

int stream_socket(int socket) {
  int type = 0;
  socklen_t size = sizeof type;
  if (getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM)
    throw Error(ErrorKind::communication, "file descriptor " + std::to_string(socket) +
                                              " is not a socket to a worker; tenfold-trainer is started by tenfold, "
                                              "not by hand");
  return socket;
}

int wake_event() {
  const int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (event < 0) throw Error(ErrorKind::communication, std::string("cannot make an eventfd: ") + std::strerror(errno));
  return event;
}

// Libraries append stack traces to their messages.
std::string first_line(const char* text) {
  const std::string_view whole = text;
  return std::string(whole.substr(0, whole.find('\n')));
}

constexpr const char* kOutOfMemory =
    "out of memory: make resources.max_array, the batch size or the model smaller, or free memory";

}  // namespace

void leave_signals_to_worker() {
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2}) std::signal(number, SIG_IGN);
}

Session::Session(int socket, const SessionOptions& options)
    : socket_(stream_socket(socket)), wake_(wake_event()), options_(options) {}

Session::~Session() {
  if (link_.joinable()) {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(wake_, &one, sizeof one);
    link_.join();
  }
  close(wake_);
  close(socket_);
}

void Session::run(const ReadyNotice& ready, const RunArray& run_array) {
  send(FrameType::ready, encode(ready));
  last_heard_ = steady_clock::now();
  link_ = std::thread([this] { keep_link(); });
  PendingJob pending;
  while (next_job(pending)) {
    answer(pending, run_array);
    jobs_answered_.fetch_add(1, std::memory_order_relaxed);
  }
}

// ---- the computing thread

bool Session::next_job(PendingJob& job) {
  std::unique_lock lock(queue_mutex_);
  computing_ = false;
  queue_changed_.wait(lock, [this] { return shutdown_ || !queue_.empty(); });
  if (shutdown_) return false;
  job = std::move(queue_.front());
  queue_.pop_front();
  computing_ = true;
  return true;
}

void Session::answer(const PendingJob& pending, const RunArray& run_array) {
  {
    const std::lock_guard lock(output_mutex_);
    attempt_ = pending.attempt;
  }
  try {
    const ArrayJob job = decode_job(pending.json);
    begin(pending, job);
    if (job.empty) return answer_empty(job);
    run_array(job, *this);
    finish();
  } catch (const Error& error) {
    fail(to_string(error.kind()), error.what());
  } catch (const std::bad_alloc&) {
    fail(to_string(ErrorKind::device), kOutOfMemory);
  } catch (const std::exception& error) {
    const std::string reason = first_line(error.what());
    const bool memory = reason.find("out of memory") != std::string::npos;
    fail(to_string(memory ? ErrorKind::device : ErrorKind::internal),
         memory ? std::string(kOutOfMemory) + " (" + reason + ")" : reason);
  } catch (...) {
    fail(to_string(ErrorKind::internal), "an exception of unknown type");
  }
}

// Benchmarks of dispatch: all frames of the answer in one write.
void Session::answer_empty(const ArrayJob& job) {
  const std::lock_guard lock(output_mutex_);
  MemberOutcome outcome;
  for (std::size_t member = 0; member < job.members.size(); ++member) {
    outcome.member = static_cast<std::int32_t>(member);
    append_frame(output_, FrameType::member_done, attempt_, encode(outcome));
  }
  append_frame(output_, FrameType::job_done, attempt_, "{}");
  write_out();
}

void Session::begin(const PendingJob& pending, const ArrayJob& job) {
  std::vector<std::int64_t> units;
  for (const JobMember& member : job.members) units.push_back(member.unit);
  set_fault_scope(job.stage == Stage::fit ? "fit" : "adapt", units);
  current_job_ = pending.number;
  reports_ = job.group.rank == 0;
  members_done_.assign(job.members.size(), false);
  const std::lock_guard lock(output_mutex_);
  progress_ = {};
  waiting_bytes_ = 0;
  filled_.clear();
  blocks_.clear();
  blocks_.resize(job.members.size());
}

void Session::finish() {
  const auto missing = std::ranges::find(members_done_, false);
  if (reports_ && missing != members_done_.end())
    throw Error(ErrorKind::internal,
                "the array ended without an outcome for member " + std::to_string(missing - members_done_.begin()));
  send(FrameType::job_done, "{}");
}

void Session::fail(const std::string& kind, const std::string& reason) {
  std::fprintf(stderr, "tenfold-trainer: array failed: %s: %s\n", kind.c_str(), reason.c_str());
  send(FrameType::failure, encode(FailureNotice{kind, reason}));
}

void Session::rows(std::uint32_t member, std::span<const TrainStepRow> rows) { add_rows(member, rows); }
void Session::rows(std::uint32_t member, std::span<const TttStepRow> rows) { add_rows(member, rows); }
void Session::rows(std::uint32_t member, std::span<const EvaluationRow> rows) { add_rows(member, rows); }
void Session::rows(std::uint32_t member, std::span<const InnerLossRow> rows) { add_rows(member, rows); }
void Session::rows(std::uint32_t member, std::span<const GateRow> rows) { add_rows(member, rows); }
void Session::rows(std::uint32_t member, std::span<const PositionLossRow> rows) { add_rows(member, rows); }
void Session::rows(std::uint32_t member, std::span<const GroupStepRow> rows) { add_rows(member, rows); }
void Session::rows(std::uint32_t member, std::span<const PairScoreRow> rows) { add_rows(member, rows); }

template <class Row>
void Session::add_rows(std::uint32_t member, std::span<const Row> rows) {
  constexpr RowKind kind = RowKindOf<Row>::value;
  constexpr std::size_t kBlockBytes = max_rows_per_block(sizeof(Row)) * sizeof(Row);
  const std::lock_guard lock(output_mutex_);
  if (member >= blocks_.size())
    throw Error(ErrorKind::internal,
                "rows of member " + std::to_string(member) + " in an array of " + std::to_string(blocks_.size()));
  while (!rows.empty()) {
    Block& block = blocks_[member][static_cast<std::size_t>(kind)];
    if (block.empty()) filled_.emplace_back(member, kind);
    const std::size_t count = std::min(rows.size(), (kBlockBytes - block.size()) / sizeof(Row));
    block.append(reinterpret_cast<const char*>(rows.data()), count * sizeof(Row));
    waiting_bytes_ += count * sizeof(Row);
    rows = rows.subspan(count);
    if (block.size() == kBlockBytes || waiting_bytes_ >= kMaxWaitingBytes) {
      frame_rows();
      write_out();
    }
  }
}

void Session::checkpoint(const CheckpointNotice& notice) {
  fault_point("checkpoint");
  send(FrameType::checkpoint, encode(notice));
  fault_point("checkpointed");
}

void Session::outcome(const MemberOutcome& outcome) {
  const auto member = static_cast<std::size_t>(outcome.member);
  if (outcome.member < 0 || member >= members_done_.size() || members_done_[member])
    throw Error(ErrorKind::internal,
                "an outcome of member " + std::to_string(outcome.member) + ", which " +
                    (outcome.member >= 0 && member < members_done_.size() ? "has one already" : "does not exist"));
  fault_point("outcome");
  send(FrameType::member_done, encode(outcome));
  members_done_[member] = true;
}

void Session::progress(const Progress& progress) {
  {
    const std::lock_guard lock(output_mutex_);
    progress_ = progress;
  }
  fault_point("step", progress.step);
}

bool Session::drain_requested() { return current_job_ <= jobs_drained_.load(std::memory_order_relaxed); }

void Session::send(FrameType type, std::string_view payload) {
  const std::lock_guard lock(output_mutex_);
  frame_rows();
  append_frame(output_, type, attempt_, payload);
  write_out();
}

// ---- under output_mutex_

void Session::frame_rows() {
  std::string payload;
  for (const auto& [member, kind] : filled_) {
    Block& block = blocks_[member][static_cast<std::size_t>(kind)];
    const RowBlockHeader header{
        kind, member, static_cast<std::uint32_t>(block.size() / kRowBytes[static_cast<std::size_t>(kind)]), 0};
    payload.assign(reinterpret_cast<const char*>(&header), sizeof header);
    payload += block;
    append_frame(output_, FrameType::rows, attempt_, payload);
    block.clear();
  }
  filled_.clear();
  waiting_bytes_ = 0;
}

void Session::write_out() {
  std::size_t sent = 0;
  while (sent < output_.size()) {
    const ssize_t n = ::send(socket_, output_.data() + sent, output_.size() - sent, MSG_NOSIGNAL);
    if (n >= 0) {
      sent += static_cast<std::size_t>(n);
    } else if (errno == EAGAIN) {  // a socket that is non-blocking on this side
      pollfd writable{socket_, POLLOUT, 0};
      poll(&writable, 1, 1000);
    } else if (errno != EINTR) {
      leave(exit_code(ErrorKind::communication), std::string("the worker is gone: ") + std::strerror(errno));
    }
  }
  output_.clear();
}

void Session::write_what_fits() {
  std::size_t sent = 0;
  while (sent < output_.size()) {
    const ssize_t n = ::send(socket_, output_.data() + sent, output_.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
      sent += static_cast<std::size_t>(n);
    } else if (errno == EAGAIN) {
      break;
    } else if (errno != EINTR) {
      leave(exit_code(ErrorKind::communication), std::string("the worker is gone: ") + std::strerror(errno));
    }
  }
  output_.erase(0, sent);
}

// ---- the link thread

void Session::keep_link() {
  FrozenTime frozen;
  auto next_beat = steady_clock::now() + options_.heartbeat;
  auto next_flush = steady_clock::now() + options_.flush;
  while (true) {
    const bool busy = jobs_answered_.load(std::memory_order_relaxed) < jobs_received_.load(std::memory_order_relaxed);
    const auto until = busy ? std::min(next_beat, next_flush) : next_beat;
    const auto wait = std::chrono::ceil<milliseconds>(until - steady_clock::now());
    pollfd watched[] = {{socket_, POLLIN, 0}, {wake_, POLLIN, 0}};
    const int ready = poll(watched, 2, static_cast<int>(std::clamp<std::int64_t>(wait.count(), 0, 1000)));
    if (ready > 0 && watched[1].revents != 0) return;
    if (ready > 0 && watched[0].revents != 0) read_frames();

    // After reading: a process that was itself stopped for a while finds the worker's words in the socket.
    const auto now = steady_clock::now();
    last_heard_ = std::min(now, last_heard_ + frozen.take(now));
    if (now - last_heard_ > options_.alive_timeout)
      leave(exit_code(ErrorKind::communication),
            "nothing heard from the worker for " +
                std::to_string(std::chrono::duration_cast<milliseconds>(now - last_heard_).count()) + " ms");
    if (options_.parent > 0 && getppid() != options_.parent)
      leave(exit_code(ErrorKind::communication), "the worker has ended");
    if (now >= next_beat) {
      beat();
      next_beat = now + options_.heartbeat;
      next_flush = now + options_.flush;
    } else if (now >= next_flush) {
      const std::unique_lock lock(output_mutex_, std::try_to_lock);
      if (lock.owns_lock()) {
        if (output_.empty()) frame_rows();
        write_what_fits();
      }
      next_flush = now + options_.flush;
    }
  }
}

void Session::read_frames() {
  std::array<char, 64 * 1024> bytes;
  while (true) {
    const ssize_t n = recv(socket_, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (n == 0) leave(exit_code(ErrorKind::communication), "the worker closed the connection");
    if (n < 0) {
      if (errno == EAGAIN) return;
      if (errno == EINTR) continue;
      leave(exit_code(ErrorKind::communication), std::string("the worker is gone: ") + std::strerror(errno));
    }
    last_heard_ = steady_clock::now();
    try {
      parser_.feed({bytes.data(), static_cast<std::size_t>(n)});
      while (auto frame = parser_.next()) take(std::move(*frame));
    } catch (const Error& error) {
      leave(exit_code(error.kind()), error.what());
    }
  }
}

void Session::take(Frame frame) {
  switch (frame.type) {
    case FrameType::job: {
      const std::lock_guard lock(queue_mutex_);
      const std::uint64_t number = jobs_received_.load(std::memory_order_relaxed) + 1;
      queue_.push_back({number, frame.attempt, std::move(frame.payload)});
      jobs_received_.store(number, std::memory_order_relaxed);
      queue_changed_.notify_one();
      return;
    }
    case FrameType::drain:
      jobs_drained_.store(jobs_received_.load(std::memory_order_relaxed));
      return;
    case FrameType::shutdown: {
      const std::lock_guard lock(queue_mutex_);
      if (computing_) leave(0, "told to end in the middle of an array");
      shutdown_ = true;
      queue_changed_.notify_one();
      return;
    }
    case FrameType::join:
      return take_address(frame);
    case FrameType::alive:
      return;
    default:
      throw Error(ErrorKind::communication,
                  "a frame of type " + std::to_string(static_cast<int>(frame.type)) + ", which only trainers send");
  }
}

// Skipped while the computing thread writes: the worker then hears of this trainer anyway.
void Session::beat() {
  const std::unique_lock lock(output_mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return;
  if (output_.empty()) {
    frame_rows();
    append_frame(output_, FrameType::heartbeat, attempt_, encode(progress_));
  }
  write_what_fits();
}

void Session::leave(int status, const std::string& reason) {
  std::fprintf(stderr, "tenfold-trainer: %s; exiting\n", reason.c_str());
  std::fflush(stderr);
  _exit(status);
}

}  // namespace tenfold

#include "runner/worker_trainer.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "experiments/error.h"
#include "runner/rank_settings.h"
#include "runner/spawn.h"

namespace tenfold {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point then) { return std::chrono::duration<double>(Clock::now() - then).count(); }

}  // namespace

TrainerSettings trainer_settings(const std::string& device, const std::filesystem::path& log, double stall_limit_s) {
  TrainerSettings settings;
  const char* program = std::getenv("TENFOLD_TRAINER");
  settings.program = program && *program ? std::filesystem::path(program) : program_folder() / "tenfold-trainer";
  settings.device = device;
  settings.log = log;
  settings.stall_limit_s = stall_limit_s;
  settings.silence_s = seconds_from_environment("TENFOLD_TRAINER_SILENCE_S", settings.silence_s);
  return settings;
}

void Trainer::start() {
  kill();
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
    throw Error(ErrorKind::communication, std::string("cannot make a socket pair: ") + std::strerror(errno));
  socket_ = UniqueFd(pair[0]);
  const UniqueFd theirs(pair[1]);
  std::error_code no_log_yet;
  log_begin_ = std::filesystem::file_size(settings_.log, no_log_yet);
  if (no_log_yet) log_begin_ = 0;
  parser_ = FrameParser();
  outgoing_.clear();
  nonsense_.clear();
  ready_ = end_of_stream_ = computing_ = false;
  // One thread per slot: more would fight for the cores and change sums.
  std::vector<std::string> environment = settings_.environment;
  if (settings_.device == "cpu") environment.insert(environment.end(), {"OMP_NUM_THREADS=1", "MKL_NUM_THREADS=1"});
  child_ = spawn(
      {settings_.program,
       {"--socket-fd", "3", "--device", settings_.device, "--threads", "1", "--parent-pid", std::to_string(::getpid())},
       environment_without_mpi(environment),
       settings_.log,
       theirs.get()});
  started_ = last_heard_ = Clock::now();
}

void Trainer::kill() {
  child_ = ChildProcess();
  socket_.reset();
  ready_ = computing_ = false;
}

void Trainer::send(FrameType type, std::uint64_t attempt, std::string_view payload) {
  if (!running()) return;
  if (type == FrameType::job) {
    computing_ = true;
    progress_ = {};
    last_advance_ = Clock::now();
  }
  outgoing_ += encode_frame(type, attempt, payload);
  flush();
}

void Trainer::flush() {
  std::size_t done = 0;
  while (done < outgoing_.size() && socket_) {
    const ssize_t sent =
        ::send(socket_.get(), outgoing_.data() + done, outgoing_.size() - done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0)
      done += static_cast<std::size_t>(sent);
    else if (errno != EINTR)
      break;  // full: later; broken: receive() will see the end
  }
  outgoing_.erase(0, done);
}

void Trainer::receive(std::size_t max_bytes) {
  char block[65536];
  std::size_t total = 0;
  while (socket_ && !end_of_stream_ && total < max_bytes) {
    const ssize_t got = ::recv(socket_.get(), block, sizeof block, MSG_DONTWAIT);
    if (got > 0) {
      last_heard_ = Clock::now();
      total += static_cast<std::size_t>(got);
      parser_.feed({block, static_cast<std::size_t>(got)});
      if (static_cast<std::size_t>(got) < sizeof block) return;
    } else if (got < 0 && errno == EINTR) {
      continue;
    } else {
      if (got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) end_of_stream_ = true;
      return;
    }
  }
}

void Trainer::forgive(std::chrono::steady_clock::duration silence) {
  started_ += silence;
  last_heard_ = std::min(Clock::now(), last_heard_ + silence);
  last_advance_ = std::min(Clock::now(), last_advance_ + silence);
}

std::optional<Frame> Trainer::next() {
  if (!nonsense_.empty()) return std::nullopt;
  try {
    auto frame = parser_.next();
    if (frame && frame->type == FrameType::ready) ready_ = true;
    if (frame) note_progress(*frame);
    return frame;
  } catch (const Error& error) {
    nonsense_ = error.what();
    return std::nullopt;
  }
}

// Whatever it says besides that it lives is progress: rows, checkpoints and outcomes come from computing.
void Trainer::note_progress(const Frame& frame) {
  if (frame.type == FrameType::heartbeat) {
    const Progress now = decode_progress(frame.payload);
    if (now.step == progress_.step && now.steps == progress_.steps) return;
    progress_ = now;
  } else if (frame.type == FrameType::job_done || frame.type == FrameType::failure) {
    computing_ = false;
  }
  last_advance_ = Clock::now();
}

std::string Trainer::with_log(const std::string& reason) const {
  const std::string tail = log_tail(settings_.log, log_begin_);
  return tail.empty() ? reason : reason + "; last in its log: " + tail;
}

std::optional<std::string> Trainer::lost() {
  if (!running()) return std::nullopt;
  std::string reason;
  if (!nonsense_.empty()) {
    reason = "the trainer sent what cannot be read: " + nonsense_;
  } else if (end_of_stream_) {
    // The stream ends a moment before the process does; how it ended is worth the moment.
    if (child_.wait_for(std::chrono::milliseconds(500)))
      reason = "the trainer was " + child_.how_it_ended();
    else
      reason = "the trainer closed its connection";
    if (reason.starts_with("the trainer was exited")) reason = "the trainer " + child_.how_it_ended();
  } else if (!ready_ && seconds_since(started_) > settings_.start_limit_s) {
    reason = "the trainer was not ready after " + std::to_string(static_cast<int>(settings_.start_limit_s)) + " s";
  } else if (ready_ && seconds_since(last_heard_) > settings_.silence_s) {
    char text[96];
    std::snprintf(text, sizeof text, "the trainer hung: no sign of life for %.3g s", settings_.silence_s);
    reason = text;
  } else if (computing_ && settings_.stall_limit_s > 0 && seconds_since(last_advance_) > settings_.stall_limit_s) {
    char text[256];
    std::snprintf(text, sizeof text,
                  "the trainer stood still at step %lld of %lld for %.6g s (resources.stall_limit_s; raise it if "
                  "preparing, a step or an evaluation may take that long)",
                  static_cast<long long>(progress_.step), static_cast<long long>(progress_.steps),
                  settings_.stall_limit_s);
    reason = text;
  } else {
    return std::nullopt;
  }
  reason = with_log(reason);
  kill();
  return reason;
}

bool Trainer::end(std::chrono::milliseconds limit) {
  if (!running()) return true;
  send(FrameType::shutdown, 0, "");
  const bool by_itself = child_.wait_for(limit);
  kill();
  return by_itself;
}

}  // namespace tenfold

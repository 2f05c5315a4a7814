#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "runner/child.h"
#include "runner/unix_socket.h"
#include "trainer/protocol.h"

namespace tenfold {

struct TrainerSettings {
  std::filesystem::path program;
  std::string device = "cpu";
  std::filesystem::path log;
  std::vector<std::string> environment;  // NAME=value beside ours
  double silence_s = 30;                 // a trainer that says nothing for so long is hung
  double stall_limit_s = 0;              // a job whose step stands still for so long is given up; 0: never
  double start_limit_s = 180;            // until it is ready: cold file caches, a GPU's first context
};
// $TENFOLD_TRAINER, or tenfold-trainer beside the running program. Limits from $TENFOLD_TRAINER_SILENCE_S.
TrainerSettings trainer_settings(const std::string& device, const std::filesystem::path& log, double stall_limit_s = 0);

// One trainer process and the socket to it: started, listened to, found hung, stalled or dead, replaced. Reads only
// when asked, so that a slow coordinator slows the trainer down.
class Trainer {
 public:
  explicit Trainer(TrainerSettings settings) : settings_(std::move(settings)) {}

  void start();  // kills the one before
  bool running() const { return child_.started(); }
  bool ready() const { return ready_; }
  pid_t pid() const { return child_.pid(); }
  int fd() const { return socket_.get(); }
  bool wants_write() const { return !outgoing_.empty(); }

  void send(FrameType type, std::uint64_t attempt, std::string_view payload);
  void flush();
  // Reads at most `max_bytes` of what is there; frames come from next().
  void receive(std::size_t max_bytes);
  std::optional<Frame> next();
  void forgive(std::chrono::steady_clock::duration silence);                                // all of us were stopped
  void not_listening() { last_heard_ = last_advance_ = std::chrono::steady_clock::now(); }  // its silence is ours

  // Why it must be replaced, once: it died (after all it wrote was read), hangs, or speaks nonsense. It is dead
  // when this returns a reason.
  std::optional<std::string> lost();
  void kill();
  bool end(std::chrono::milliseconds limit);  // asks it to end, kills it when it does not; true: it ended by itself

 private:
  void note_progress(const Frame& frame);
  std::string with_log(const std::string& reason) const;

  TrainerSettings settings_;
  ChildProcess child_;
  UniqueFd socket_;
  FrameParser parser_;
  std::string outgoing_;
  bool ready_ = false;
  bool end_of_stream_ = false;
  std::string nonsense_;
  std::uintmax_t log_begin_ = 0;
  bool computing_ = false;
  Progress progress_;  // of the job, as its last heartbeat told
  std::chrono::steady_clock::time_point started_{}, last_heard_{}, last_advance_{};
};

}  // namespace tenfold

#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "experiments/error.h"
#include "runner/progress.h"
#include "runner/signals.h"
#include "runner/unix_socket.h"

namespace tenfold {

// How a run ended, as the coordinator knows it and the front reports it.
struct RunOutcome {
  std::int64_t trials = 0, trials_done = 0, trials_failed = 0;
  bool drained = false;
  bool lost_workers = false;  // mpirun may not end by itself
  double elapsed_s = 0;       // from the first dispatch to the last commit
  std::optional<ErrorKind> error;
  std::string message;  // of the error
};
std::string encode(const RunOutcome& outcome);
RunOutcome decode_outcome_of_run(const std::string& json);  // throws Error(communication)

// The coordinator's view of whoever started the run and reads its progress.
class FrontLink {
 public:
  virtual ~FrontLink() = default;
  virtual int fd() const = 0;   // to poll for reading
  virtual void together() = 0;  // MPI has brought all ranks together: from here on the coordinator sees who dies
  virtual void progress(const ProgressSnapshot& snapshot) = 0;
  virtual void note(const std::string& line) = 0;
  virtual void outcome(const RunOutcome& outcome) = 0;
  virtual std::string drain_requested() = 0;  // the first signal that asked for one, as SIGTERM; empty: none did
  virtual bool gone() = 0;                    // nobody is there any more: end at once
};

// The front process at the other end of a Unix socket: JSON lines in both directions.
// Signals that reach the rank (mpirun passes them on) ask for a drain, too.
std::unique_ptr<FrontLink> socket_front(const std::filesystem::path& socket, SignalReceiver& signals);

// Inside a foreign MPI world rank 0 draws its own progress; signals ask for a drain.
std::unique_ptr<FrontLink> terminal_front(SignalReceiver& signals, bool quiet);

// The lines, for both ends.
struct FrontLine {
  enum class Kind { together, progress, note, outcome, drain } kind;
  std::string content;  // JSON of the struct; the text of a note; the signal that asked to drain
};
std::string encode(const FrontLine& line);
FrontLine decode_front_line(const std::string& line);  // throws Error(communication)

}  // namespace tenfold

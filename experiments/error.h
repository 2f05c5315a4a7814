#pragma once

#include <stdexcept>
#include <string>

namespace tenfold {

// What went wrong, from the user's side. Each kind has its own exit code, so that a script
// can tell a typing mistake from a full disk.
enum class ErrorKind {
  config,         // the command line or the experiment file
  data,           // a dataset, a checkpoint or another input file
  device,         // a GPU or its driver
  communication,  // MPI, sockets, child processes
  storage,        // the SQLite store or the disk under it
  internal,       // a defect of tenfold itself
};

// Exit codes of the program. Errors end with exit_code(kind).
inline constexpr int kExitDone = 0;
inline constexpr int kExitSomeTrialsFailed = 1;
inline constexpr int kExitDrained = 75;       // stopped by SIGTERM: run again to go on
inline constexpr int kExitInterrupted = 130;  // stopped by Ctrl-C

int exit_code(ErrorKind kind);
const char* to_string(ErrorKind kind);

// The one exception type that crosses a folder's border. The message is one line for a user:
// where, what, and what to do. Errors of libraries are translated where the library is used.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

}  // namespace tenfold

#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <utility>

namespace tenfold {

// A child process that leads a session of its own. The destructor kills the whole session and reaps the child, so
// nothing outlives its owner.
class ChildProcess {
 public:
  ChildProcess() = default;
  explicit ChildProcess(pid_t pid) : pid_(pid) {}
  ChildProcess(ChildProcess&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)), status_(std::exchange(other.status_, std::nullopt)) {}
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ~ChildProcess();

  pid_t pid() const { return pid_; }
  bool started() const { return pid_ > 0; }
  bool ended();                                    // asks the kernel, without waiting
  bool wait_for(std::chrono::milliseconds limit);  // true when it has ended
  void signal(int number);                         // to the child alone
  void kill_session();                             // SIGKILL to all of its session's leading group
  void kill_whole_session();  // ... and to those in it that made groups of their own, as mpirun's children do
  // "killed by SIGSEGV (segmentation fault)", "exited with code 3"; only after it has ended.
  std::string how_it_ended() const;
  int exit_code() const;  // 128 + number when a signal ended it; -1: it still runs
  // The signal that ended it, also one that it took and told by exit code 128 + number; 0: none did.
  int ended_by_signal() const;

 private:
  pid_t pid_ = -1;
  std::optional<int> status_;  // of waitpid
};

}  // namespace tenfold

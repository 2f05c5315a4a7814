#pragma once

#include <signal.h>

#include <optional>
#include <string>
#include <vector>

#include "runner/unix_socket.h"

namespace tenfold {

std::string signal_name(int signal);  // "SIGTERM"

// While there is nothing to drain yet, a signal ends this process at once, with the exit code of a drained run: what
// was begun is left as a kill leaves it, which a store survives. For the whole of a process's life; a SignalReceiver
// made later takes the signals from it.
void end_at_once_on(const std::vector<int>& signals);

// Takes signals as readable events of a file descriptor, to be polled beside sockets. The signals stay blocked for
// the life of the process (threads started later inherit that); children get a clean mask from spawn.h.
class SignalReceiver {
 public:
  explicit SignalReceiver(const std::vector<int>& signals);
  int fd() const { return fd_.get(); }
  std::optional<int> next();  // the next pending one; never blocks
  // From now on they do to the process what they do by default.
  void let_through();

 private:
  sigset_t set_;
  UniqueFd fd_;
};

}  // namespace tenfold

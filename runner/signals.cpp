#include "runner/signals.h"

#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "experiments/error.h"

namespace tenfold {

SignalReceiver::SignalReceiver(const std::vector<int>& signals) {
  sigemptyset(&set_);
  for (const int signal : signals) {
    struct sigaction current {};
    sigaction(signal, nullptr, &current);
    // nohup: who asked to survive the terminal's end means it.
    if (signal == SIGHUP && current.sa_handler == SIG_IGN) continue;
    if (current.sa_handler == SIG_IGN) {
      current.sa_handler = SIG_DFL;
      sigaction(signal, &current, nullptr);
    }
    sigaddset(&set_, signal);
  }
  if (pthread_sigmask(SIG_BLOCK, &set_, nullptr) != 0) throw Error(ErrorKind::internal, "cannot block signals");
  fd_ = UniqueFd(signalfd(-1, &set_, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!fd_) throw Error(ErrorKind::internal, std::string("cannot watch signals: ") + std::strerror(errno));
}

std::optional<int> SignalReceiver::next() {
  signalfd_siginfo info{};
  if (::read(fd_.get(), &info, sizeof info) != sizeof info) return std::nullopt;
  return static_cast<int>(info.ssi_signo);
}

void SignalReceiver::let_through() { pthread_sigmask(SIG_UNBLOCK, &set_, nullptr); }

}  // namespace tenfold

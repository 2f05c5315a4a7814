#include "runner/signals.h"

#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>

#include "experiments/error.h"

namespace tenfold {
namespace {

// nohup: who asked to survive the terminal's end means it.
bool is_meant_to_be_ignored(int signal) {
  struct sigaction current {};
  sigaction(signal, nullptr, &current);
  return signal == SIGHUP && current.sa_handler == SIG_IGN;
}

// Only calls that a handler may make.
void end_now(int signal) {
  constexpr std::string_view kWords = "Stopped before anything was begun: run the same command again.\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kWords.data(), kWords.size());
  ::_exit(signal == SIGINT ? kExitInterrupted : kExitDrained);
}

}  // namespace

std::string signal_name(int signal) {
  const char* const name = sigabbrev_np(signal);
  return name ? "SIG" + std::string(name) : "signal " + std::to_string(signal);
}

void end_at_once_on(const std::vector<int>& signals) {
  for (const int signal : signals) {
    if (is_meant_to_be_ignored(signal)) continue;
    struct sigaction action {};
    action.sa_handler = end_now;
    sigaction(signal, &action, nullptr);
  }
}

SignalReceiver::SignalReceiver(const std::vector<int>& signals) {
  sigemptyset(&set_);
  for (const int signal : signals) {
    if (is_meant_to_be_ignored(signal)) continue;
    struct sigaction current {};
    sigaction(signal, nullptr, &current);
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

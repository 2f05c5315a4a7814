#include "runner/child.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include "runner/process_table.h"
#include "runner/signals.h"

namespace tenfold {
namespace {

std::string described(int number) {
  const char* description = sigdescr_np(number);
  std::string name = signal_name(number);
  if (description) {
    std::string lower = description;
    if (!lower.empty() && lower[0] >= 'A' && lower[0] <= 'Z') lower[0] = static_cast<char>(lower[0] - 'A' + 'a');
    name += " (" + lower + ")";
  }
  return name;
}

}  // namespace

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(status_, other.status_);
  return *this;
}

ChildProcess::~ChildProcess() {
  if (pid_ <= 0) return;
  kill_session();
  wait_for(std::chrono::seconds(2));
}

bool ChildProcess::ended() {
  if (pid_ <= 0 || status_) return true;
  int status = 0;
  pid_t result;
  do {
    result = ::waitpid(pid_, &status, WNOHANG);
  } while (result < 0 && errno == EINTR);
  if (result == pid_) status_ = status;
  if (result < 0) status_ = 0;  // reaped by somebody else: nothing more is known
  return status_.has_value();
}

bool ChildProcess::wait_for(std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  auto pause = std::chrono::microseconds(200);
  while (!ended()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(pause);
    if (pause < std::chrono::milliseconds(10)) pause *= 2;
  }
  return true;
}

void ChildProcess::signal(int number) {
  if (pid_ > 0 && !ended()) ::kill(pid_, number);
}

void ChildProcess::kill_session() {
  if (pid_ <= 0) return;
  // The group may have members left when its leader is gone; its number is not given away while it has.
  ::kill(-pid_, SIGKILL);
  if (!ended()) ::kill(pid_, SIGKILL);
}

void ChildProcess::kill_whole_session() {
  kill_session();
  if (pid_ <= 0) return;
  for (const pid_t member : processes_of_session(pid_)) ::kill(member, SIGKILL);
}

int ChildProcess::ended_by_signal() const {
  const int code = exit_code();
  return code > 128 && code < 128 + NSIG ? code - 128 : 0;
}

std::string ChildProcess::how_it_ended() const {
  if (!status_) return "still runs";
  if (WIFSIGNALED(*status_)) return "killed by " + described(WTERMSIG(*status_));
  return "exited with code " + std::to_string(WEXITSTATUS(*status_));
}

int ChildProcess::exit_code() const {
  if (!status_) return -1;
  return WIFSIGNALED(*status_) ? 128 + WTERMSIG(*status_) : WEXITSTATUS(*status_);
}

}  // namespace tenfold

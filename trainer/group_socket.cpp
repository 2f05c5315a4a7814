#include "trainer/group_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "experiments/error.h"
#include "experiments/frozen_time.h"

namespace tenfold {
namespace {

using std::chrono::steady_clock;

[[noreturn]] void lost(int peer, const std::string& how) {
  throw Error(ErrorKind::communication, "rank " + std::to_string(peer) + " of the trial's group " + how);
}

}  // namespace

GroupSocket::~GroupSocket() {
  if (descriptor_ >= 0) close(descriptor_);
}

GroupSocket::GroupSocket(GroupSocket&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), peer_(other.peer_) {}

GroupSocket& GroupSocket::operator=(GroupSocket&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(peer_, other.peer_);
  return *this;
}

void GroupSocket::wait(short events, steady_clock::time_point until) const {
  FrozenTime frozen;
  while (true) {
    until += frozen.take();
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - steady_clock::now());
    if (left.count() <= 0) lost(peer_, "is silent");
    pollfd watched{descriptor_, events, 0};
    const int ready = poll(&watched, 1, static_cast<int>(std::min<std::int64_t>(left.count(), 1000)));
    if (ready > 0) return;  // errors too: the call that follows names them
    if (ready < 0 && errno != EINTR) lost(peer_, std::string("cannot be waited for: ") + std::strerror(errno));
  }
}

void GroupSocket::send(const void* data, std::size_t bytes, std::chrono::milliseconds silence) {
  const char* next = static_cast<const char*>(data);
  auto until = steady_clock::now() + silence;
  while (bytes > 0) {
    const ssize_t n = ::send(descriptor_, next, bytes, MSG_NOSIGNAL);
    if (n >= 0) {
      next += n;
      bytes -= static_cast<std::size_t>(n);
      until = steady_clock::now() + silence;
    } else if (errno == EAGAIN) {
      wait(POLLOUT, until);
    } else if (errno != EINTR) {
      lost(peer_, std::string("is gone: ") + std::strerror(errno));
    }
  }
}

void GroupSocket::receive(void* data, std::size_t bytes, std::chrono::milliseconds silence) {
  char* next = static_cast<char*>(data);
  auto until = steady_clock::now() + silence;
  while (bytes > 0) {
    const ssize_t n = recv(descriptor_, next, bytes, 0);
    if (n == 0) lost(peer_, "closed the connection");
    if (n > 0) {
      next += n;
      bytes -= static_cast<std::size_t>(n);
      until = steady_clock::now() + silence;
    } else if (errno == EAGAIN) {
      wait(POLLIN, until);
    } else if (errno != EINTR) {
      lost(peer_, std::string("is gone: ") + std::strerror(errno));
    }
  }
}

bool GroupSocket::closed_by_peer() const {
  pollfd watched{descriptor_, POLLRDHUP, 0};
  return poll(&watched, 1, 0) > 0 && (watched.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

}  // namespace tenfold

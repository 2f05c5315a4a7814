#include "runner/unix_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "experiments/error.h"

namespace tenfold {
namespace {

constexpr std::size_t kMaxWaitingBytes = std::size_t{16} << 20;  // a line longer than this is not ours

UniqueFd new_socket() {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) throw Error(ErrorKind::communication, std::string("cannot make a socket: ") + std::strerror(errno));
  return fd;
}

sockaddr_un address_of(const std::filesystem::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string text = path.string();
  if (text.size() >= sizeof address.sun_path)
    throw Error(ErrorKind::communication,
                "the path of the socket " + text + " is too long: set TMPDIR to a shorter one");
  std::memcpy(address.sun_path, text.c_str(), text.size() + 1);
  return address;
}

}  // namespace

UniqueFd listen_unix(const std::filesystem::path& path) {
  UniqueFd fd = new_socket();
  const sockaddr_un address = address_of(path);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || ::listen(fd.get(), 4) != 0)
    throw Error(ErrorKind::communication, "cannot listen on " + path.string() + ": " + std::strerror(errno));
  return fd;
}

UniqueFd connect_unix(const std::filesystem::path& path) {
  UniqueFd fd = new_socket();
  const sockaddr_un address = address_of(path);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    throw Error(ErrorKind::communication,
                "cannot reach the front process at " + path.string() + ": " + std::strerror(errno));
  return fd;
}

std::optional<UniqueFd> accept_unix(const UniqueFd& listener) {
  const int fd = ::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) return std::nullopt;
  return UniqueFd(fd);
}

void LineChannel::send(const std::string& line) {
  if (broken_) return;
  outgoing_ += line;
  outgoing_ += '\n';
  flush();
}

void LineChannel::flush() {
  while (!outgoing_.empty() && !broken_) {
    const ssize_t sent = ::send(fd_.get(), outgoing_.data(), outgoing_.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      outgoing_.erase(0, static_cast<std::size_t>(sent));
    } else if (errno == EINTR) {
      continue;
    } else {
      if (errno != EAGAIN && errno != EWOULDBLOCK) {
        broken_ = true;
        outgoing_.clear();
      }
      return;
    }
  }
}

void LineChannel::receive() {
  char block[16384];
  while (!closed_) {
    const ssize_t got = ::recv(fd_.get(), block, sizeof block, 0);
    if (got > 0) {
      incoming_.append(block, static_cast<std::size_t>(got));
      if (incoming_.size() > kMaxWaitingBytes) closed_ = true;
    } else if (got < 0 && errno == EINTR) {
      continue;
    } else {
      if (got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) closed_ = true;
      return;
    }
  }
}

std::optional<std::string> LineChannel::next() {
  const std::size_t end = incoming_.find('\n');
  if (end == std::string::npos) return std::nullopt;
  std::string line = incoming_.substr(0, end);
  incoming_.erase(0, end + 1);
  return line;
}

}  // namespace tenfold

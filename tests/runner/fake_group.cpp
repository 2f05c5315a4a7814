#include "tests/runner/fake_group.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

#include "experiments/error.h"

namespace tenfold {
namespace {

[[noreturn]] void lost(const std::string& who) { throw Error(ErrorKind::communication, who + " of the group is gone"); }

void send_all(const UniqueFd& fd, std::uint64_t value, const std::string& who) {
  if (::send(fd.get(), &value, sizeof value, MSG_NOSIGNAL) != sizeof value) lost(who);
}

std::uint64_t receive_all(const UniqueFd& fd, const std::string& who) {
  std::uint64_t value = 0;
  if (::recv(fd.get(), &value, sizeof value, MSG_WAITALL) != sizeof value) lost(who);
  return value;
}

}  // namespace

FakeGroup::FakeGroup(const JobGroup& group, Session& session) : group_(group) {
  if (group_.rank == 0)
    meet(session);
  else
    join(session);
}

void FakeGroup::meet(Session& session) {
  if (std::getenv("TENFOLD_FAKE_NO_MEETING"))
    while (true) std::this_thread::sleep_for(std::chrono::seconds(1));
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
      ::listen(listener.get(), group_.size) != 0 ||
      ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw Error(ErrorKind::communication, "a group's leader cannot listen");
  session.announce({std::to_string(ntohs(address.sin_port))});
  links_.resize(static_cast<std::size_t>(group_.size));
  for (int i = 1; i < group_.size; ++i) {
    UniqueFd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd) lost("a member");
    const std::uint64_t rank = receive_all(fd, "a member");
    links_.at(rank) = std::move(fd);
  }
}

void FakeGroup::join(Session& session) {
  const GroupAddress where = session.await(std::chrono::seconds(60));
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(where.address)));
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) lost("the leader");
  links_.push_back(std::move(fd));
  send_all(links_.front(), static_cast<std::uint64_t>(group_.rank), "the leader");
}

std::uint64_t FakeGroup::combine(std::uint64_t mine) {
  if (group_.rank > 0) {
    send_all(links_.front(), mine, "the leader");
    return receive_all(links_.front(), "the leader");
  }
  std::uint64_t sum = mine;
  for (int rank = 1; rank < group_.size; ++rank)
    sum = sum * 31 + receive_all(links_[static_cast<std::size_t>(rank)], "member " + std::to_string(rank));
  for (int rank = 1; rank < group_.size; ++rank)
    send_all(links_[static_cast<std::size_t>(rank)], sum, "member " + std::to_string(rank));
  return sum;
}

}  // namespace tenfold

// How the sockets of a group come about: an address with a secret, a leader that listens, others that connect.
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <string_view>

#include "experiments/error.h"
#include "trainer/group_socket.h"

namespace tenfold {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kSecretBytes = 16;
constexpr std::size_t kMostStrangers = 64;  // connections that have not shown the secret yet
constexpr milliseconds kStrangerPatience{10'000};
constexpr char kWelcome[8] = {'w', 'e', 'l', 'c', 'o', 'm', 'e', '!'};

using Secret = std::array<unsigned char, kSecretBytes>;

struct Hello {
  char magic[8] = {'t', 'e', 'n', 'f', 'o', 'l', 'd', '1'};
  Secret secret{};
  std::int32_t rank = 0, size = 0;
};
static_assert(sizeof(Hello) == 32);

struct Where {
  std::string host, port;
  Secret secret{};
};

[[noreturn]] void fail(const std::string& what) { throw Error(ErrorKind::communication, what); }

std::string error_text() { return std::strerror(errno); }

Secret make_secret() {
  Secret secret;
  if (getrandom(secret.data(), secret.size(), 0) != static_cast<ssize_t>(secret.size()))
    fail("no random bytes for a group's secret: " + error_text());
  return secret;
}

// Takes as long wherever they differ.
bool same(const Secret& a, const Secret& b) {
  unsigned difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned>(a[i] ^ b[i]);
  return difference == 0;
}

std::string to_text(const Where& where) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text = "tcp://" + where.host + ":" + where.port + "/";
  for (const unsigned char byte : where.secret) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

Where parse(std::string_view text) {
  constexpr std::string_view kScheme = "tcp://";
  const std::size_t slash = text.rfind('/');
  const std::size_t colon = text.substr(0, std::min(slash, text.size())).rfind(':');
  Where where;
  bool good = text.starts_with(kScheme) && slash != std::string_view::npos && colon != std::string_view::npos &&
              colon > kScheme.size() && text.size() - slash - 1 == 2 * kSecretBytes;
  if (good) {
    where.host = text.substr(kScheme.size(), colon - kScheme.size());
    where.port = text.substr(colon + 1, slash - colon - 1);
    for (std::size_t i = 0; i < kSecretBytes && good; ++i) {
      const char* first = text.data() + slash + 1 + 2 * i;
      const auto [end, error] = std::from_chars(first, first + 2, where.secret[i], 16);
      good = error == std::errc() && end == first + 2;
    }
  }
  if (!good) fail("the group's leader gave an address that is none");
  return where;
}

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Addresses resolve(const std::string& host, const std::string& port, int flags) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  const int error = getaddrinfo(host.empty() ? nullptr : host.c_str(), port.c_str(), &hints, &found);
  if (error != 0) fail("the host '" + host + "' of the group's leader is unknown here: " + gai_strerror(error));
  return {found, freeaddrinfo};
}

bool is_loopback(const addrinfo& address) {
  if (address.ai_family == AF_INET)
    return ntohl(reinterpret_cast<const sockaddr_in*>(address.ai_addr)->sin_addr.s_addr) >> 24 == 127;
  return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(address.ai_addr)->sin6_addr);
}

void configure(int socket) {
  const int one = 1, idle_s = 10, interval_s = 5, probes = 4;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  // A host that has vanished says nothing: the kernel finds out, within half a minute.
  setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
  setsockopt(socket, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
  setsockopt(socket, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
  setsockopt(socket, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
  const unsigned unanswered_ms = 30'000;
  setsockopt(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, &unanswered_ms, sizeof unanswered_ms);
}

int listening_socket(const addrinfo& address) {
  const int socket = ::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (socket < 0) return -1;
  if (bind(socket, address.ai_addr, address.ai_addrlen) == 0 && listen(socket, 128) == 0) return socket;
  const int error = errno;
  close(socket);
  errno = error;
  return -1;
}

// On the loopback alone where all are on one host; else at the host's own address, or, where its name means the
// loopback to itself, at all of its addresses.
GroupSocket listen_for(const JobGroup& group) {
  if (group.one_host) {
    const int socket = listening_socket(*resolve("127.0.0.1", "0", AI_NUMERICHOST));
    if (socket < 0) fail("cannot listen on the loopback for a group: " + error_text());
    return GroupSocket(socket);
  }
  const Addresses own = resolve(group.host, "0", 0);
  for (const addrinfo* address = own.get(); address != nullptr; address = address->ai_next) {
    if (is_loopback(*address)) continue;
    if (const int socket = listening_socket(*address); socket >= 0) return GroupSocket(socket);
  }
  const Addresses any = resolve("", "0", AI_PASSIVE);
  for (const addrinfo* address = any.get(); address != nullptr; address = address->ai_next)
    if (const int socket = listening_socket(*address); socket >= 0) return GroupSocket(socket);
  fail("cannot listen for a group on " + group.host + ": " + error_text());
}

std::string port_of(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    fail("a listening socket has no address: " + error_text());
  const std::uint16_t port = address.ss_family == AF_INET ? reinterpret_cast<sockaddr_in&>(address).sin_port
                                                          : reinterpret_cast<sockaddr_in6&>(address).sin6_port;
  return std::to_string(ntohs(port));
}

// A connection on its way to being a rank.
struct Stranger {
  GroupSocket socket;
  std::array<char, sizeof(Hello)> bytes{};
  std::size_t have = 0;
  steady_clock::time_point until;
};

// Reads what there is. 0: go on; 1: said hello; -1: to be dropped.
int hear(Stranger& stranger) {
  const ssize_t n = recv(stranger.socket.descriptor(), stranger.bytes.data() + stranger.have,
                         stranger.bytes.size() - stranger.have, 0);
  if (n == 0) return -1;
  if (n < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
  stranger.have += static_cast<std::size_t>(n);
  return stranger.have == stranger.bytes.size() ? 1 : 0;
}

class Gathering {
 public:
  Gathering(const JobGroup& group, const Secret& secret) : group_(group), secret_(secret) {
    members_.resize(static_cast<std::size_t>(group.size - 1));
  }
  bool complete() const {
    return std::all_of(members_.begin(), members_.end(), [](const GroupSocket& member) { return member.open(); });
  }
  std::string missing() const {
    std::string ranks;
    for (std::size_t i = 0; i < members_.size(); ++i)
      if (!members_[i].open()) ranks += (ranks.empty() ? "" : ", ") + std::to_string(i + 1);
    return ranks;
  }
  void accept_all(int listener) {
    while (true) {
      const int socket = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (socket < 0) return;  // EAGAIN, or a connection that is gone again
      configure(socket);
      if (strangers_.size() == kMostStrangers) strangers_.erase(strangers_.begin());
      strangers_.push_back({GroupSocket(socket), {}, 0, steady_clock::now() + kStrangerPatience});
    }
  }
  void hear_all() {
    for (std::size_t i = 0; i < strangers_.size();) {
      const int said = hear(strangers_[i]);
      if (said > 0) admit(strangers_[i]);
      if (said != 0 || steady_clock::now() > strangers_[i].until)
        strangers_.erase(strangers_.begin() + static_cast<std::ptrdiff_t>(i));
      else
        ++i;
    }
  }
  std::vector<pollfd> watched(int listener) const {
    std::vector<pollfd> all{{listener, POLLIN, 0}};
    for (const Stranger& stranger : strangers_) all.push_back({stranger.socket.descriptor(), POLLIN, 0});
    return all;
  }
  std::vector<GroupSocket> members() { return std::move(members_); }

 private:
  void admit(Stranger& stranger) {
    Hello hello, good;
    std::memcpy(&hello, stranger.bytes.data(), sizeof hello);
    if (std::memcmp(hello.magic, good.magic, sizeof good.magic) != 0 || !same(hello.secret, secret_)) return;
    if (hello.size != group_.size || hello.rank < 1 || hello.rank >= group_.size) return;
    GroupSocket& member = members_[static_cast<std::size_t>(hello.rank - 1)];
    if (member.open()) return;
    stranger.socket.send(kWelcome, sizeof kWelcome, kStrangerPatience);
    member = GroupSocket(stranger.socket.release(), hello.rank);
  }

  const JobGroup& group_;
  const Secret& secret_;
  std::vector<GroupSocket> members_;
  std::vector<Stranger> strangers_;
};

int connect_to(const Where& where, steady_clock::time_point until) {
  const Addresses addresses = resolve(where.host, where.port, 0);
  std::string reason = "no address";
  for (const addrinfo* address = addresses.get(); address != nullptr; address = address->ai_next) {
    GroupSocket socket(::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket.open()) continue;
    configure(socket.descriptor());
    int error = 0;
    if (connect(socket.descriptor(), address->ai_addr, address->ai_addrlen) != 0) error = errno;
    if (error == EINPROGRESS) {
      pollfd writable{socket.descriptor(), POLLOUT, 0};
      const auto left = std::chrono::ceil<milliseconds>(until - steady_clock::now()).count();
      const int ready = poll(&writable, 1, static_cast<int>(std::max<std::int64_t>(0, left)));
      socklen_t size = sizeof error;
      if (ready == 0)
        error = ETIMEDOUT;
      else
        getsockopt(socket.descriptor(), SOL_SOCKET, SO_ERROR, &error, &size);
    }
    if (error == 0) return socket.release();
    reason = std::strerror(error);
  }
  fail("the leader of the trial's group cannot be reached at " + where.host + ":" + where.port + ": " + reason);
}

}  // namespace

std::vector<GroupSocket> gather_group(const JobGroup& group, Meeting& meeting, const GroupTimes& times) {
  const GroupSocket listener = listen_for(group);
  const Secret secret = make_secret();
  const std::string host = group.one_host ? "127.0.0.1" : group.host;
  meeting.announce({to_text({host, port_of(listener.descriptor()), secret})});
  Gathering gathering(group, secret);
  const auto until = steady_clock::now() + times.join;
  while (!gathering.complete()) {
    const auto left = std::chrono::ceil<milliseconds>(until - steady_clock::now());
    if (left.count() <= 0)
      fail("of the trial's group of " + std::to_string(group.size) + ", rank " + gathering.missing() +
           " did not join within " + std::to_string(times.join.count() / 1000) + " s");
    std::vector<pollfd> watched = gathering.watched(listener.descriptor());
    poll(watched.data(), watched.size(), static_cast<int>(std::min<std::int64_t>(left.count(), 1000)));
    gathering.accept_all(listener.descriptor());
    gathering.hear_all();
  }
  return gathering.members();
}

GroupSocket join_group(const JobGroup& group, Meeting& meeting, const GroupTimes& times) {
  const auto until = steady_clock::now() + times.join;
  const Where where = parse(meeting.await(times.join).address);
  GroupSocket leader(connect_to(where, until), 0);
  Hello hello;
  hello.secret = where.secret;
  hello.rank = group.rank;
  hello.size = group.size;
  leader.send(&hello, sizeof hello, times.join);
  char answer[sizeof kWelcome];
  leader.receive(answer, sizeof answer, times.join);
  if (std::memcmp(answer, kWelcome, sizeof answer) != 0) fail("what answers for the group's leader is no trainer");
  return leader;
}

}  // namespace tenfold

#include "datasets/parts_transfer.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>
#include <system_error>
#include <type_traits>

#include "datasets/sample_store.h"

namespace tenfold {
namespace {

constexpr char kParts = 'p', kPartsStored = 's', kError = 'e';
constexpr std::size_t kPieceBytes = std::size_t{1} << 20;

// Its ends are of one program, so there is no version and no byte order to tell.
class Sender {
 public:
  explicit Sender(int socket) : socket_(socket) {}

  // The first byte, and the descriptor that goes along with it (-1: none).
  void begin(char what, int fd) const {
    iovec piece = {&what, 1};
    msghdr message = {};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    if (fd >= 0) {
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      cmsghdr* const header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int));
      std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
    }
    ssize_t sent = 0;
    while ((sent = ::sendmsg(socket_, &message, MSG_NOSIGNAL)) < 0 && errno == EINTR) {
    }
    if (sent != 1) throw std::system_error(errno, std::generic_category(), "sendmsg");
  }

  void bytes(const void* data, std::size_t count) const {
    const char* at = static_cast<const char*>(data);
    while (count > 0) {
      const ssize_t sent = ::send(socket_, at, std::min(count, kPieceBytes), MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent <= 0) throw std::system_error(errno, std::generic_category(), "send");
      at += sent;
      count -= static_cast<std::size_t>(sent);
    }
  }
  template <class T>
  requires std::is_trivially_copyable_v<T>
  void value(const T& value) const { bytes(&value, sizeof value); }
  template <class T>
  void list(const std::vector<T>& values) const {
    value<std::uint64_t>(values.size());
    bytes(values.data(), values.size() * sizeof(T));
  }
  void text(const std::string& text) const {
    value<std::uint64_t>(text.size());
    bytes(text.data(), text.size());
  }
  void texts(const std::vector<std::string>& texts) const {
    value<std::uint64_t>(texts.size());
    for (const std::string& each : texts) text(each);
  }

 private:
  int socket_;
};

struct EndedEarly {};

class Receiver {
 public:
  explicit Receiver(int socket) : socket_(socket) {}

  char begin(UniqueFd& fd) const {
    char what = 0;
    iovec piece = {&what, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message = {};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    ssize_t received = 0;
    while ((received = ::recvmsg(socket_, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR) {
    }
    if (received != 1) throw EndedEarly();
    const cmsghdr* const header = CMSG_FIRSTHDR(&message);
    if (header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
        header->cmsg_len == CMSG_LEN(sizeof(int))) {
      int given = -1;
      std::memcpy(&given, CMSG_DATA(header), sizeof given);
      fd = UniqueFd(given);
    }
    return what;
  }

  void bytes(void* data, std::size_t count) const {
    char* at = static_cast<char*>(data);
    while (count > 0) {
      const ssize_t received = ::recv(socket_, at, count, 0);
      if (received < 0 && errno == EINTR) continue;
      if (received <= 0) throw EndedEarly();
      at += received;
      count -= static_cast<std::size_t>(received);
    }
  }
  template <class T>
  requires std::is_trivially_copyable_v<T> T value()
  const {
    T value;
    bytes(&value, sizeof value);
    return value;
  }
  // Memory is taken as the values come, whatever their number is said to be.
  template <class Values>
  Values list() const {
    constexpr std::size_t kPiece = kPieceBytes / sizeof(typename Values::value_type);
    Values values;
    for (auto left = value<std::uint64_t>(); left > 0;) {
      const std::size_t piece = std::min<std::uint64_t>(left, kPiece), had = values.size();
      values.resize(had + piece);
      bytes(values.data() + had, piece * sizeof(typename Values::value_type));
      left -= piece;
    }
    return values;
  }
  std::vector<std::string> texts() const {
    std::vector<std::string> texts;
    for (auto left = value<std::uint64_t>(); left > 0; --left) texts.push_back(list<std::string>());
    return texts;
  }

 private:
  int socket_;
};

template <class Kind>
Kind kind_of(std::int32_t number, std::initializer_list<Kind> kinds) {
  for (const Kind kind : kinds)
    if (static_cast<std::int32_t>(kind) == number) return kind;
  throw EndedEarly();
}

Dataset::Parts parts_of(const Receiver& from, UniqueFd stored, bool is_stored, const std::string& name) {
  Dataset::Parts parts;
  parts.kind = kind_of(from.value<std::int32_t>(), {SampleKind::fixed, SampleKind::sequence, SampleKind::tokens});
  parts.label_kind = kind_of(from.value<std::int32_t>(), {LabelKind::sample, LabelKind::step, LabelKind::next_token});
  parts.sample_shape = from.list<std::vector<std::int64_t>>();
  parts.samples = from.list<std::vector<float>>();
  for (std::vector<std::int64_t>* list :
       {&parts.labels, &parts.groups, &parts.given_folds, &parts.starts, &parts.lengths})
    *list = from.list<std::vector<std::int64_t>>();
  for (std::vector<std::int32_t>* list : {&parts.tokens, &parts.token_bytes})
    *list = from.list<std::vector<std::int32_t>>();
  parts.class_names = from.texts();
  parts.group_names = from.texts();
  for (const std::uint8_t flag : from.list<std::vector<std::uint8_t>>()) parts.one_hot.push_back(flag != 0);
  if (is_stored) SampleStore(std::move(stored), from.value<std::int64_t>(), name).give_to(parts);
  return parts;
}

}  // namespace

void send_parts(int socket, const Dataset::Parts& parts) {
  const Sender to(socket);
  const bool is_stored = !parts.stored_samples.empty();
  to.begin(is_stored ? kPartsStored : kParts, is_stored ? parts.stored_fd : -1);
  to.value(static_cast<std::int32_t>(parts.kind));
  to.value(static_cast<std::int32_t>(parts.label_kind));
  to.list(parts.sample_shape);
  to.list(parts.samples);
  for (const auto* list : {&parts.labels, &parts.groups, &parts.given_folds, &parts.starts, &parts.lengths})
    to.list(*list);
  for (const auto* list : {&parts.tokens, &parts.token_bytes}) to.list(*list);
  to.texts(parts.class_names);
  to.texts(parts.group_names);
  to.list(std::vector<std::uint8_t>(parts.one_hot.begin(), parts.one_hot.end()));
  if (is_stored) to.value(static_cast<std::int64_t>(parts.stored_samples.size()));
}

void send_error(int socket, const Error& error) {
  const Sender to(socket);
  to.begin(kError, -1);
  to.value(static_cast<std::int32_t>(error.kind()));
  to.text(error.what());
}

std::optional<Dataset::Parts> receive_parts(int socket, const std::string& name) {
  const Receiver from(socket);
  try {
    UniqueFd stored;
    const char what = from.begin(stored);
    if (what == kParts || what == kPartsStored) return parts_of(from, std::move(stored), what == kPartsStored, name);
    if (what != kError) return std::nullopt;
    const auto kind =
        kind_of(from.value<std::int32_t>(), {ErrorKind::config, ErrorKind::data, ErrorKind::device,
                                             ErrorKind::communication, ErrorKind::storage, ErrorKind::internal});
    throw Error(kind, from.list<std::string>());
  } catch (const EndedEarly&) {
    return std::nullopt;
  }
}

}  // namespace tenfold

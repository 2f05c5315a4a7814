#include "db/run_lock.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "db/sqlite.h"
#include "db/text_table.h"
#include "experiments/error.h"

namespace tenfold {
namespace {

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "unknown";
}

// "pid 123 on host x since ..." from the file's content; whatever it holds, no more than a hint.
std::string holder(int fd) {
  char text[1024];
  const ssize_t size = pread(fd, text, sizeof text, 0);
  const auto json = nlohmann::json::parse(text, text + std::max<ssize_t>(size, 0), nullptr, false);
  const auto field = [&](const char* name) {
    return json.is_object() && json.contains(name) && json[name].is_string() ? printable(json[name].get<std::string>())
                                                                             : "";
  };
  if (!json.is_object() || !json.contains("pid") || !json["pid"].is_number_integer()) return "another process";
  std::string who = "pid " + std::to_string(json["pid"].get<std::int64_t>()) + " on host " + field("host") + " since " +
                    field("started_at");
  if (!field("experiment").empty()) who += " (experiment " + field("experiment") + ")";
  return who;
}

[[noreturn]] void fail(const std::filesystem::path& file, const std::string& doing, int error) {
  throw Error(ErrorKind::storage, file.string() + ": cannot " + doing + ": " + std::strerror(error) +
                                      "; check that the folder exists and may be written");
}

// Of the open file description, not of the process: a second open in the same process counts as another holder.
struct flock whole_file(short type) {
  struct flock request {};
  request.l_type = type;
  request.l_whence = SEEK_SET;
  return request;
}

}  // namespace

RunLock RunLock::acquire(const std::filesystem::path& db, const std::string& experiment) {
  const std::filesystem::path file = db.string() + ".lock";
  RunLock lock(open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (lock.fd_ < 0) fail(file, "open the run lock", errno);
  struct flock request = whole_file(F_WRLCK);
  if (fcntl(lock.fd_, F_OFD_SETLK, &request) != 0) {
    if (errno != EAGAIN && errno != EACCES) fail(file, "take the run lock", errno);
    throw Error(ErrorKind::storage, db.string() + " is held by " + holder(lock.fd_) +
                                        "; wait for it, end it, or use another store with --db");
  }
  const std::string text = nlohmann::json{{"host", host_name()},
                                          {"pid", static_cast<std::int64_t>(getpid())},
                                          {"started_at", utc_now()},
                                          {"experiment", experiment}}
                               .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
                           "\n";
  if (ftruncate(lock.fd_, 0) != 0 || pwrite(lock.fd_, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
    fail(file, "write the run lock", errno);
  return lock;
}

RunLock::RunLock(RunLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

RunLock& RunLock::operator=(RunLock&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

RunLock::~RunLock() {
  if (fd_ >= 0) close(fd_);
}

std::optional<std::string> run_lock_holder(const std::filesystem::path& db) {
  const std::filesystem::path file = db.string() + ".lock";
  const RunLock looking(open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (looking.fd_ < 0) {
    if (errno == ENOENT) return std::nullopt;  // no run has been here yet
    fail(file, "open the run lock", errno);
  }
  struct flock request = whole_file(F_RDLCK);  // what a reader's descriptor may ask; the holder's lock is exclusive
  if (fcntl(looking.fd_, F_OFD_GETLK, &request) != 0) fail(file, "look at the run lock", errno);
  if (request.l_type == F_UNLCK) return std::nullopt;
  return holder(looking.fd_);
}

}  // namespace tenfold

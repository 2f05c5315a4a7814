#include "db/run_lock.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "db/file_system.h"
#include "db/sqlite.h"
#include "experiments/error.h"
#include "experiments/host.h"
#include "experiments/storage_advice.h"

namespace tenfold {
namespace {

// What the file says of the holder; no more than a hint.
std::string holder(int fd) {
  char text[1024];
  const ssize_t size = pread(fd, text, sizeof text, 0);
  return describe_holder(std::string(text, static_cast<std::size_t>(std::max<ssize_t>(size, 0))));
}

[[noreturn]] void fail(const std::filesystem::path& file, const std::string& doing, int error) {
  throw storage_error(file, "cannot " + doing, error);
}

// Of the open file description, not of the process: a second open in the same process counts as another holder.
struct flock whole_file(short type) {
  struct flock request {};
  request.l_type = type;
  request.l_whence = SEEK_SET;
  return request;
}

// Some network file systems know no such locks: there the lease alone counts.
bool has_no_locks(int error) { return error == ENOLCK || error == EOPNOTSUPP || error == ENOSYS || error == EINVAL; }

}  // namespace

RunLock RunLock::acquire(const std::filesystem::path& db, const std::string& experiment, const Lease::Tell& tell) {
  const std::filesystem::path file = db.string() + ".lock";
  const bool shared = is_store_published(db) || file_system_of(db).network;
  RunLock lock(open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!lock.fd_) fail(file, "open the run lock", errno);
  struct flock request = whole_file(F_WRLCK);
  bool locked = fcntl(lock.fd_.get(), F_OFD_SETLK, &request) == 0;
  if (!locked && !(shared && has_no_locks(errno))) {
    if (errno != EAGAIN && errno != EACCES) fail(file, "take the run lock", errno);
    throw Error(ErrorKind::storage, db.string() + " is held by " + holder(lock.fd_.get()) +
                                        "; wait for it, end it, or use another store with --db");
  }
  const std::string text = nlohmann::json{{"host", host_name()},
                                          {"pid", static_cast<std::int64_t>(getpid())},
                                          {"started_at", utc_now()},
                                          {"experiment", experiment}}
                               .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
                           "\n";
  if (shared) lock.lease_ = Lease::take(db, text, locked, tell);
  // On a full disk the others are not told who holds it; whether the run can go on, the store itself will say.
  const auto size = static_cast<ssize_t>(text.size());
  if ((ftruncate(lock.fd_.get(), 0) != 0 || pwrite(lock.fd_.get(), text.data(), text.size(), 0) != size) &&
      errno != ENOSPC && errno != EDQUOT)
    fail(file, "write the run lock", errno);
  return lock;
}

void RunLock::confirm() const {
  if (lease_) lease_->confirm();
}

std::string RunLock::taken_from() const { return lease_ ? lease_->taken_from() : ""; }

RunLock& RunLock::operator=(RunLock&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(lease_, other.lease_);
  return *this;
}

std::optional<std::string> run_lock_holder(const std::filesystem::path& db) {
  const std::filesystem::path file = db.string() + ".lock";
  const RunLock looking(open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!looking.fd_ && errno != ENOENT) fail(file, "open the run lock", errno);
  const bool shared = is_store_published(db) || file_system_of(db).network;
  bool free_here = false;
  if (looking.fd_) {
    struct flock request = whole_file(F_RDLCK);  // what a reader's descriptor may ask; the holder's lock is exclusive
    if (fcntl(looking.fd_.get(), F_OFD_GETLK, &request) == 0) {
      if (request.l_type != F_UNLCK) return holder(looking.fd_.get());
      free_here = true;
    } else if (!(shared && has_no_locks(errno))) {
      fail(file, "look at the run lock", errno);
    }
  }
  if (!shared) return std::nullopt;
  const std::optional<std::string> elsewhere = lease_holder(db, free_here);
  return elsewhere ? std::optional(describe_holder(*elsewhere)) : std::nullopt;
}

}  // namespace tenfold

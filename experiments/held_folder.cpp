#include "experiments/held_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <vector>

#include "experiments/error.h"
#include "experiments/host.h"
#include "experiments/storage_advice.h"

namespace tenfold {
namespace {

namespace fs = std::filesystem;

constexpr const char* kHeld = "held";
constexpr const char* kAside = "held.aside";
constexpr time_t kForgotten_s = 3600;

// Of the open file description: a second open in the same process is another holder.
bool lock_whole(int fd) {
  struct flock request {};
  request.l_type = F_WRLCK;
  request.l_whence = SEEK_SET;
  return ::fcntl(fd, F_OFD_SETLK, &request) == 0;
}

// Some network file systems know no such locks; there nobody else can take one, and what is left behind stays.
bool has_no_locks(int error) { return error == ENOLCK || error == EOPNOTSUPP || error == ENOSYS || error == EINVAL; }

// Some others know them within a host alone: a lock is trusted where its owner lived.
bool is_from_here(int held) {
  char text[512];
  const ssize_t size = ::pread(held, text, sizeof text, 0);
  const std::string said(text, size > 0 ? static_cast<std::size_t>(size) : 0);
  if (said.empty()) return true;  // the disk was full, or an older tenfold
  const std::size_t space = said.find(' ');
  if (space == std::string::npos) return false;
  return said.substr(0, space) == host_name() || said.substr(space + 1) == boot_id();
}

bool is_dead(const fs::path& folder) {
  struct stat info {};
  if (::lstat(folder.c_str(), &info) != 0 || info.st_uid != ::getuid() || !S_ISDIR(info.st_mode)) return false;
  const UniqueFd held(::open((folder / kHeld).c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (held) return is_from_here(held.get()) && lock_whole(held.get());
  // Killed while it was made: nothing is in it yet.
  if (errno != ENOENT || ::time(nullptr) - info.st_mtime <= kForgotten_s) return false;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    if (it->path().filename() != kAside) return false;
  return !error;
}

}  // namespace

HeldFolder::HeldFolder(const fs::path& base, std::string_view prefix) {
  std::string name = (base / (std::string(prefix) + "XXXXXX")).string();
  if (!::mkdtemp(name.data())) throw storage_error(base, "no folder can be made there", errno);
  path_ = name;
  // Locked before it has the name by which others look for it.
  const fs::path aside = path_ / kAside;
  const std::string owner = host_name() + " " + boot_id();
  held_ = UniqueFd(::open(aside.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  const auto size = static_cast<ssize_t>(owner.size());
  if (held_ && (lock_whole(held_.get()) || has_no_locks(errno)) &&
      (::pwrite(held_.get(), owner.data(), owner.size(), 0) == size || errno == ENOSPC || errno == EDQUOT) &&
      ::rename(aside.c_str(), (path_ / kHeld).c_str()) == 0)
    return;
  const int code = errno;
  std::error_code ignored;
  fs::remove_all(path_, ignored);
  throw storage_error(path_, "the folder cannot be locked", code);
}

HeldFolder::~HeldFolder() {
  std::error_code ignored;
  if (!path_.empty()) fs::remove_all(path_, ignored);
}

bool HeldFolder::keep_as(const fs::path& name) {
  std::error_code error;
  fs::rename(path_, name, error);
  path_.clear();
  if (error) return false;
  fs::remove(name / kHeld, error);
  return true;
}

void HeldFolder::remove_dead(const fs::path& base, std::string_view prefix) {
  std::error_code error;
  std::vector<fs::path> dead;
  for (fs::directory_iterator it(base, error), end; !error && it != end; it.increment(error))
    if (it->path().filename().string().starts_with(prefix) && is_dead(it->path())) dead.push_back(it->path());
  for (const fs::path& folder : dead) fs::remove_all(folder, error);
}

}  // namespace tenfold

#include "db/store_home.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <vector>

#include "db/file_system.h"
#include "db/sqlite.h"
#include "experiments/error.h"
#include "experiments/fault_point.h"
#include "experiments/storage_advice.h"

namespace tenfold {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "tenfold-live-";
constexpr const char* kHeld = "held";
constexpr time_t kForgotten_s = 3600;
constexpr std::string_view kAside = ".publishing.";

// Node-local, if there is such a place that may be written.
fs::path node_folder() {
  fs::path possible;
  // mpirun's ranks have a TMPDIR that goes with the run; the user's own comes under another name.
  for (const char* variable : {"SLURM_TMPDIR", "TENFOLD_NODE_FOLDER", "TMPDIR", ""}) {
    const char* value = *variable ? std::getenv(variable) : "/tmp";
    if (!value || !*value || ::access(value, W_OK | X_OK) != 0) continue;
    if (possible.empty()) possible = value;
    if (!file_system_of(fs::path(value) / "x").network) return value;
  }
  if (possible.empty())
    throw Error(ErrorKind::storage, "no folder for the live store on this node: set TMPDIR to one that may be written");
  return possible;
}

bool lock_whole(int fd) {
  struct flock request {};
  request.l_type = F_WRLCK;
  request.l_whence = SEEK_SET;
  return ::fcntl(fd, F_OFD_SETLK, &request) == 0;
}

// Of runs that were killed: nobody holds their lock.
void remove_leftovers(const fs::path& base) {
  std::error_code error;
  std::vector<fs::path> dead;
  for (fs::directory_iterator it(base, error), end; !error && it != end; it.increment(error)) {
    if (!it->path().filename().string().starts_with(kPrefix)) continue;
    struct stat info {};
    if (::lstat(it->path().c_str(), &info) != 0 || info.st_uid != ::getuid() || !S_ISDIR(info.st_mode)) continue;
    const UniqueFd held(::open((it->path() / kHeld).c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    const bool forgotten = !held && ::time(nullptr) - info.st_mtime > kForgotten_s;  // killed while it was made
    if (forgotten || (held && lock_whole(held.get()))) dead.push_back(it->path());
  }
  for (const fs::path& folder : dead) fs::remove_all(folder, error);
}

void sync_file(const fs::path& file, int flags) {
  const UniqueFd opened(::open(file.c_str(), flags | O_CLOEXEC));
  if (!opened) throw storage_error(file, "cannot be opened", errno);
  // Some network file systems know no fsync of a folder; there the rename itself is what they offer.
  if (::fsync(opened.get()) != 0 && errno != EINVAL && errno != ENOTSUP)
    throw storage_error(file, "cannot be brought to the disk", errno);
}

struct CloseDatabase {
  void operator()(sqlite3* database) const { sqlite3_close(database); }
};
struct FinishBackup {
  void operator()(sqlite3_backup* backup) const { sqlite3_backup_finish(backup); }
};

// A consistent copy of the whole store, with no log beside it. `to` is known to nobody else: it is written without
// locks, which a network file system may lack.
void copy_store(const fs::path& from, const fs::path& to) {
  {
    Connection source(from, Connection::Access::read_only);
    sqlite3* opened = nullptr;
    constexpr int kFlags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    const int status = sqlite3_open_v2(to.c_str(), &opened, kFlags, "unix-none");
    const std::unique_ptr<sqlite3, CloseDatabase> target(opened);
    const auto check = [&](bool good) {
      if (good) return;
      const int code = sqlite3_system_errno(opened);
      if (code != 0) throw storage_error(to, "a copy of the store cannot be written", code);
      throw Error(ErrorKind::storage, to.string() + ": a copy of the store cannot be written: " +
                                          sqlite3_errmsg(opened) + "; check the space and the permissions there");
    };
    check(status == SQLITE_OK);
    check(sqlite3_exec(opened, "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF", nullptr, nullptr, nullptr) ==
          SQLITE_OK);
    std::unique_ptr<sqlite3_backup, FinishBackup> backup(sqlite3_backup_init(opened, "main", source.handle(), "main"));
    check(backup != nullptr);
    const int end = sqlite3_backup_step(backup.get(), -1);
    backup.reset();
    check(end == SQLITE_DONE);
  }
  const UniqueFd copy(::open(to.c_str(), O_RDWR | O_CLOEXEC));
  const unsigned char without_log[2] = {1, 1};
  if (!copy || ::pwrite(copy.get(), without_log, sizeof without_log, kSqliteVersionBytes) != 2 ||
      ::fsync(copy.get()) != 0)
    throw storage_error(to, "cannot be written", errno);
}

// Removed unless it got its name.
class Aside {
 public:
  explicit Aside(fs::path file) : file_(std::move(file)) {}
  ~Aside() {
    if (file_.empty()) return;
    std::error_code ignored;
    fs::remove(file_, ignored);
    fs::remove(file_.string() + "-journal", ignored);
  }
  Aside(const Aside&) = delete;
  Aside& operator=(const Aside&) = delete;
  const fs::path& file() const { return file_; }
  void rename_to(const fs::path& target) {
    if (::rename(file_.c_str(), target.c_str()) != 0) throw storage_error(target, "cannot be published", errno);
    file_.clear();
  }

 private:
  fs::path file_;
};

fs::path folder_of(const fs::path& file) { return file.has_parent_path() ? file.parent_path() : fs::path("."); }

// Copies that a killed run was writing.
void remove_asides(const fs::path& db) {
  std::error_code error;
  const std::string prefix = db.filename().string() + std::string(kAside);
  std::vector<fs::path> dead;
  for (fs::directory_iterator it(folder_of(db), error), end; !error && it != end; it.increment(error))
    if (it->path().filename().string().starts_with(prefix)) dead.push_back(it->path());
  for (const fs::path& file : dead) fs::remove(file, error);
}

}  // namespace

StoreHome::StoreHome(const fs::path& db, const RunLock& lock) : db_(db), live_(db), lock_(lock) {
  if (!is_store_published(db)) return;
  const fs::path base = node_folder();
  remove_leftovers(base);
  remove_asides(db);
  std::string name = (base / (std::string(kPrefix) + "XXXXXX")).string();
  if (!::mkdtemp(name.data())) throw storage_error(base, "no folder for the live store can be made there", errno);
  folder_ = name;
  try {
    // Locked before it has the name by which others look for it.
    const fs::path held = folder_ / kHeld, aside = folder_ / "held.aside";
    held_ = UniqueFd(::open(aside.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!held_ || !lock_whole(held_.get()) || ::rename(aside.c_str(), held.c_str()) != 0)
      throw storage_error(folder_, "the folder of the live store cannot be locked", errno);
    live_ = folder_ / db.filename();
    if (std::error_code none; !fs::exists(db, none)) return;
    if (has_write_ahead_log(db) || fs::exists(db.string() + "-journal")) {
      // A run without publication was here, perhaps killed: its log is made part of the file, once and for all.
      Connection connection(db, Connection::Access::read_write);
      connection.execute("PRAGMA journal_mode = DELETE");
    }
    if (fs::file_size(db) > 0) copy_store(db, live_);
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
    throw;
  }
}

StoreHome::~StoreHome() {
  std::error_code ignored;
  if (!folder_.empty()) fs::remove_all(folder_, ignored);
}

void StoreHome::confirm_lock() const {
  try {
    lock_.confirm();
  } catch (const LeaseLost&) {
    lost_ = true;
    throw;
  }
}

void StoreHome::publish() const {
  if (!is_published()) return;
  fault_point("publish");
  Aside aside(db_.string() + std::string(kAside) + folder_.filename().string());
  copy_store(live_, aside.file());
  confirm_lock();  // as late as can be: another host may have taken over while this one slept
  aside.rename_to(db_);
  sync_file(folder_of(db_), O_RDONLY | O_DIRECTORY);
}

fs::path StoreHome::keep_live() {
  if (!is_published()) return live_;
  const fs::path kept =
      folder_.parent_path() / ("tenfold-unpublished-" + folder_.filename().string().substr(kPrefix.size()));
  std::error_code error;
  fs::rename(folder_, kept, error);
  const fs::path where = (error ? folder_ : kept) / db_.filename();
  if (!error) fs::remove(kept / kHeld, error);
  folder_.clear();
  return where;
}

}  // namespace tenfold

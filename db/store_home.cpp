#include "db/store_home.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "db/file_system.h"
#include "db/sqlite.h"
#include "experiments/error.h"
#include "experiments/fault_point.h"
#include "experiments/file_aside.h"
#include "experiments/storage_advice.h"
#include "experiments/unique_fd.h"

namespace tenfold {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "tenfold-live-";
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
  HeldFolder::remove_dead(base, kPrefix);
  remove_asides(db);
  folder_.emplace(base, kPrefix);
  live_ = folder_->path() / db.filename();
  // Not as if there were none where that cannot be seen: the first publication would put an empty store in its place.
  if (!is_store_there(db)) return;
  if (has_write_ahead_log(db) || fs::exists(db.string() + "-journal")) {
    // A run without publication was here, perhaps killed: its log is made part of the file, once and for all.
    Connection connection(db, Connection::Access::read_write);
    connection.execute("PRAGMA journal_mode = DELETE");
  }
  std::error_code error;
  const std::uintmax_t bytes = fs::file_size(db, error);
  if (error) throw storage_error(db, "the store cannot be looked at", error.value());
  if (bytes > 0) copy_store(db, live_);
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
  Aside aside(db_.string() + std::string(kAside) + folder_->path().filename().string());
  copy_store(live_, aside.file());
  confirm_lock();  // as late as can be: another host may have taken over while this one slept
  aside.rename_to(db_);
  sync_folder_of(db_);
}

fs::path StoreHome::keep_live() {
  if (!is_published()) return live_;
  const fs::path folder = folder_->path();
  const fs::path kept =
      folder.parent_path() / ("tenfold-unpublished-" + folder.filename().string().substr(kPrefix.size()));
  const bool renamed = folder_->keep_as(kept);
  folder_.reset();
  return (renamed ? kept : folder) / db_.filename();
}

}  // namespace tenfold

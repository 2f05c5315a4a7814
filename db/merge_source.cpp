#include "db/merge_source.h"

#include <stdlib.h>

#include <cerrno>
#include <optional>

#include "db/run_lock.h"
#include "db/schema.h"
#include "db/sqlite.h"
#include "db/store.h"
#include "experiments/host.h"
#include "experiments/storage_advice.h"

namespace tenfold {
namespace {

namespace fs = std::filesystem;

// What SQLite keeps beside a database until all of it is in there.
constexpr const char* kLogs[] = {"-wal", "-journal"};

fs::path beside(const fs::path& store, const char* suffix) { return store.string() + suffix; }

std::uintmax_t bytes_of(const fs::path& file) {
  std::error_code error;
  const std::uintmax_t bytes = fs::file_size(file, error);
  return error ? 0 : bytes;
}

}  // namespace

MergeSource::MergeSource(const fs::path& store) : store_(store) {
  if (std::error_code error; !fs::exists(store, error))
    throw Error(ErrorKind::storage, store.string() + ": there is no such store");
  stamp_ = stamp_of(store);
  confirm();
  if (needs_copy()) copy();
}

MergeSource::~MergeSource() {
  std::error_code ignored;
  if (!folder_.empty()) fs::remove_all(folder_, ignored);
}

std::string MergeSource::uri() const { return untouched_uri(folder_.empty() ? store_ : folder_ / store_.filename()); }

void MergeSource::confirm() const {
  if (!folder_.empty()) return;  // nobody else knows the copy
  if (const std::optional<std::string> holder = run_lock_holder(store_))
    throw Error(ErrorKind::storage, store_.string() + " is held by " + *holder + "; wait for it, or end it");
  if (stamp_of(store_) != stamp_)
    throw Error(ErrorKind::storage, store_.string() + " was written to while it was read; merge it again");
}

MergeSource::Stamp MergeSource::stamp_of(const fs::path& store) {
  std::error_code error;
  Stamp stamp{bytes_of(store), 0, fs::last_write_time(store, error)};
  for (const char* log : kLogs) stamp.log_bytes += bytes_of(beside(store, log));
  return stamp;
}

bool MergeSource::needs_copy() const {
  if (stamp_.log_bytes > 0) return true;
  Connection connection(store_, Connection::Access::untouched);
  check_is_store(connection);
  return connection.integer("PRAGMA user_version") < kSchemaVersion;
}

void MergeSource::copy() {
  const fs::path place = temporary_folder();
  std::string name = (place / "tenfold-merge-XXXXXX").string();
  if (!::mkdtemp(name.data())) throw storage_error(place, "a store cannot be copied there to be merged", errno);
  const fs::path folder = name, copied = folder / store_.filename();
  try {
    fs::copy_file(store_, copied);
    fs::permissions(copied, fs::perms::owner_read | fs::perms::owner_write);
    for (const char* log : kLogs)
      if (bytes_of(beside(store_, log)) > 0) fs::copy_file(beside(store_, log), beside(copied, log));
    confirm();            // nobody wrote meanwhile: the files belong together
    Store::open(copied);  // takes up the log, brings it forward
  } catch (const fs::filesystem_error& error) {
    fs::remove_all(folder);
    throw storage_error(place, store_.string() + " cannot be copied there to be merged", error.code().value());
  } catch (...) {
    fs::remove_all(folder);
    throw;
  }
  folder_ = folder;
}

}  // namespace tenfold

#include "db/sqlite.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <limits>
#include <utility>

#include "db/file_system.h"

namespace tenfold {
namespace {

constexpr std::uintmax_t kLittleBytes = 64 << 10;

bool is_full(const std::filesystem::path& folder) {
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(folder.empty() ? "." : folder, error);
  return !error && space.available < kLittleBytes;
}

const char* advice(int code, const std::filesystem::path& file) {
  // Of its files in shared memory SQLite says no more than that there was an error.
  if ((code & 0xff) == SQLITE_IOERR && is_full(file.parent_path())) code = SQLITE_FULL;
  switch (code & 0xff) {
    case SQLITE_FULL:
      return "free some space and run the same command again; nothing committed is lost";
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return "check the permissions of the file and its folder";
    case SQLITE_CANTOPEN:
      return "check that the folder exists and may be written";
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return "another program is writing to it; end that one and try again";
    case SQLITE_NOTADB:
      return "it is no tenfold store; choose another file with --db";
    case SQLITE_CORRUPT:
      return "the file is damaged; restore a copy, or move it away and run the experiment again";
    case SQLITE_IOERR:
      return "check the disk and the file system, then run the same command again";
    default:
      return nullptr;
  }
}

// A path as an SQLite URI: what has a meaning there is escaped.
std::string file_uri(const std::filesystem::path& file, const char* query) {
  std::string uri = "file:";
  for (const char c : std::filesystem::absolute(file).string()) {
    if (c == '?' || c == '#' || c == '%') {
      char escaped[4];
      std::snprintf(escaped, sizeof escaped, "%%%02X", static_cast<unsigned>(c));
      uri += escaped;
    } else {
      uri += c;
    }
  }
  return uri + query;
}

// Without SQLite's count of its memory, whose lock every allocation takes: a fifth of the time of small statements.
// Asked once, before the first connection; where SQLite runs already it stays as it is.
void configure_once() {
  static const int configured = sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
  (void)configured;
}

// Under this name lies one whole file until another one takes its place, so it needs no lock, which a network file
// system may lack or be slow with. A store that is written in place has a log.
bool is_published_copy(const std::filesystem::path& file) {
  return is_store_published(file) && !has_write_ahead_log(file);
}

}  // namespace

std::string untouched_uri(const std::filesystem::path& file) { return file_uri(file, "?immutable=1"); }

Connection::Connection(const std::filesystem::path& file, Access access) : file_(file) {
  configure_once();
  if (std::error_code ignored; std::filesystem::is_directory(file, ignored))
    throw Error(ErrorKind::storage, file.string() + ": is a folder, not a store; name a file in it");
  constexpr int kCommon = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE | SQLITE_OPEN_URI;
  try {
    if (access == Access::read_write) {
      open(file_uri(file, ""), kCommon | SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
      return;
    }
    if (!is_store_there(file))
      throw Error(ErrorKind::storage,
                  file.string() + ": there is no such store; run an experiment first, or name its file with --db");
    if (access == Access::untouched || is_published_copy(file)) {
      open(untouched_uri(file), kCommon | SQLITE_OPEN_READONLY);
      return;
    }
    open(file_uri(file, ""), kCommon | SQLITE_OPEN_READONLY);
    // In a folder that may not be written a WAL database has no shared memory to agree on; nobody writes it
    // there either, so it can be read as it lies.
    const int code = sqlite3_exec(handle_, "SELECT count(*) FROM sqlite_schema", nullptr, nullptr, nullptr);
    if ((code & 0xff) == SQLITE_CANTOPEN || (code & 0xff) == SQLITE_READONLY || code == SQLITE_IOERR_SHMSIZE ||
        code == SQLITE_IOERR_SHMOPEN) {
      const std::string log = file.string() + "-wal";
      if (std::error_code none; std::filesystem::file_size(log, none) > 0 && !none)
        throw Error(ErrorKind::storage, file.string() + ": its newest commits are in " + log +
                                            " and cannot be read where nothing may be written: free some space, or "
                                            "copy both files to a folder that may be written and name the copy");
      sqlite3_close_v2(std::exchange(handle_, nullptr));
      open(untouched_uri(file), kCommon | SQLITE_OPEN_READONLY);
    } else if (code != SQLITE_OK) {
      fail(code, "read the store");
    }
  } catch (...) {
    sqlite3_close_v2(handle_);
    throw;
  }
}

void Connection::open(const std::string& name, int flags) {
  const int code = sqlite3_open_v2(name.c_str(), &handle_, flags, nullptr);
  if (code != SQLITE_OK) fail(code, "open the store");
  sqlite3_busy_timeout(handle_, 10'000);
}

Connection::~Connection() { sqlite3_close_v2(handle_); }

void Connection::execute(const char* sql) {
  const int code = sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) fail(code, "write to the store");
}

std::int64_t Connection::integer(const char* sql) {
  Statement statement(*this, sql);
  return statement.next() ? statement.integer(0) : 0;
}

void Connection::fail(int code, const std::string& doing) const {
  std::string message = file_.string() + ": cannot " + doing + ": ";
  message += handle_ != nullptr ? sqlite3_errmsg(handle_) : sqlite3_errstr(code);
  if (const char* hint = advice(code, file_)) message += std::string("; ") + hint;
  throw Error(ErrorKind::storage, message);
}

Statement::Statement(Connection& connection, std::string_view sql, unsigned prepare_flags) : connection_(connection) {
  const int code = sqlite3_prepare_v3(connection.handle(), sql.data(), static_cast<int>(sql.size()), prepare_flags,
                                      &handle_, nullptr);
  if (code != SQLITE_OK) connection.fail(code, "prepare a statement");
}

Statement::Statement(Statement&& other) noexcept
    : connection_(other.connection_), handle_(std::exchange(other.handle_, nullptr)) {}

Statement::~Statement() { sqlite3_finalize(handle_); }

void Statement::check(int code) const {
  if (code != SQLITE_OK) connection_.fail(code, "bind a value");
}

Statement& Statement::bind(int index, std::int64_t value) {
  check(sqlite3_bind_int64(handle_, index, value));
  return *this;
}

Statement& Statement::bind(int index, double value) {
  check(sqlite3_bind_double(handle_, index, value));  // SQLite stores NaN as NULL
  return *this;
}

Statement& Statement::bind(int index, std::string_view value) {
  // A null data pointer would bind NULL instead of an empty text.
  check(sqlite3_bind_text64(handle_, index, value.data() != nullptr ? value.data() : "", value.size(), SQLITE_TRANSIENT,
                            SQLITE_UTF8));
  return *this;
}

Statement& Statement::bind_null(int index) {
  check(sqlite3_bind_null(handle_, index));
  return *this;
}

Statement& Statement::bind(int index, const std::optional<std::int64_t>& value) {
  return value ? bind(index, *value) : bind_null(index);
}

bool Statement::next() {
  const int code = sqlite3_step(handle_);
  if (code == SQLITE_ROW) return true;
  sqlite3_reset(handle_);
  if (code != SQLITE_DONE) connection_.fail(code, "run a statement");
  return false;
}

void Statement::run() {
  while (next()) {
  }
}

void Statement::reset() { sqlite3_reset(handle_); }

double Statement::real(int column) const {
  return is_null(column) ? std::numeric_limits<double>::quiet_NaN() : sqlite3_column_double(handle_, column);
}

std::string Statement::text(int column) const {
  const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(handle_, column));
  return data == nullptr ? std::string() : std::string(data, sqlite3_column_bytes(handle_, column));
}

Transaction::Transaction(Connection& connection) : connection_(connection) { connection.execute("BEGIN IMMEDIATE"); }

Transaction::~Transaction() {
  if (open_) sqlite3_exec(connection_.handle(), "ROLLBACK", nullptr, nullptr, nullptr);
}

void Transaction::commit() {
  connection_.execute("COMMIT");
  open_ = false;
}

std::string utc_now() {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto milliseconds =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  const std::size_t length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text + length, sizeof text - length, ".%03dZ", static_cast<int>(milliseconds));
  return text;
}

}  // namespace tenfold

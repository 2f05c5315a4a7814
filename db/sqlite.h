#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "experiments/error.h"

// SQLite's handles as owners, and its return codes as tenfold::Error. Inside db only.
namespace tenfold {

class Connection {
 public:
  enum class Access {
    read_only,
    read_write,
    untouched,  // as it lies, its log not looked at: no lock is taken and no file made
  };
  Connection(const std::filesystem::path& file, Access access);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection();

  sqlite3* handle() const { return handle_; }
  const std::filesystem::path& file() const { return file_; }
  void execute(const char* sql);
  void execute(const std::string& sql) { execute(sql.c_str()); }
  std::int64_t integer(const char* sql);  // first column of the first row; 0 without a row
  std::int64_t last_insert_id() const { return sqlite3_last_insert_rowid(handle_); }
  // Throws Error(storage): file, what was being done, SQLite's words, and what to do.
  [[noreturn]] void fail(int code, const std::string& doing) const;

 private:
  void open(const std::string& name, int flags);
  std::filesystem::path file_;
  sqlite3* handle_ = nullptr;
};

// Of a file that is opened as Access::untouched, for ATTACH.
std::string untouched_uri(const std::filesystem::path& file);

// A prepared statement. run() and next() reset it after the last row, so it can be bound again.
class Statement {
 public:
  Statement(Connection& connection, std::string_view sql, unsigned prepare_flags = 0);
  Statement(Statement&& other) noexcept;
  Statement& operator=(Statement&&) = delete;
  ~Statement();

  // Parameters count from 1. Text is copied by SQLite only where it must outlive the call.
  Statement& bind(int index, std::int64_t value);
  Statement& bind(int index, double value);  // NaN becomes NULL
  Statement& bind(int index, std::string_view value);
  Statement& bind_null(int index);
  Statement& bind(int index, const std::optional<std::int64_t>& value);

  bool next();  // false after the last row
  void run();   // to the end, rows ignored
  void reset();

  std::int64_t integer(int column) const { return sqlite3_column_int64(handle_, column); }
  double real(int column) const;  // NULL becomes NaN
  std::string text(int column) const;
  bool is_null(int column) const { return sqlite3_column_type(handle_, column) == SQLITE_NULL; }
  sqlite3_stmt* handle() const { return handle_; }

 private:
  void check(int code) const;
  Connection& connection_;
  sqlite3_stmt* handle_ = nullptr;
};

// Rolls back unless committed.
class Transaction {
 public:
  explicit Transaction(Connection& connection);
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  ~Transaction();
  void commit();

 private:
  Connection& connection_;
  bool open_ = true;
};

std::string utc_now();  // 2026-11-22T02:15:00.000Z

}  // namespace tenfold

#pragma once

#include <filesystem>
#include <memory>

namespace tenfold {

class Connection;

// A connection that can only read, beside a running sweep or without one. Opens in about a millisecond.
class Reader {
 public:
  // Throws Error(storage): no such file, not a tenfold store, written by a newer tenfold.
  static Reader open(const std::filesystem::path& file);
  Reader(Reader&&) noexcept;
  Reader& operator=(Reader&&) noexcept;
  ~Reader();

  const std::filesystem::path& file() const;
  Connection& connection() { return *connection_; }  // inside db only (db/sqlite.h)

 private:
  explicit Reader(std::unique_ptr<Connection> connection);
  std::unique_ptr<Connection> connection_;
};

}  // namespace tenfold

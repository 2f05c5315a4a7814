#pragma once

#include <atomic>
#include <filesystem>
#include <ostream>
#include <string>

namespace tenfold {

// Runs one SQL statement that reads, and writes its rows as they come. Nothing that it does can change the store or
// any other file: the connection is read-only, and an authorizer refuses everything but reading (no ATTACH, no
// PRAGMA that sets, no load_extension).
//   format: table (for people), csv (RFC 4180 with line feeds), json (an array of objects)
// `interrupted`, when given, ends the query soon after it becomes true. Throws Error(config) for SQL that does not
// parse or is refused, Error(storage) for the store.
void run_query(const std::filesystem::path& db, const std::string& sql, const std::string& format, std::ostream& out,
               const std::atomic<bool>* interrupted = nullptr);

}  // namespace tenfold

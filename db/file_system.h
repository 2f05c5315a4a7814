#pragma once

#include <filesystem>
#include <string>

namespace tenfold {

// The file system under a file that may not exist yet.
struct FileSystem {
  std::string name;      // "NFS", "ext4", ...; "of an unknown kind"
  bool network = false;  // other hosts may see it: SQLite's log and the kernel's locks do not hold there
};
FileSystem file_system_of(const std::filesystem::path& file);

// Whether a store is written elsewhere and published as copies (store_home.h): on network file systems, or as
// $TENFOLD_PUBLISH says (always, never; auto by default). Throws Error(config) for another value.
bool is_store_published(const std::filesystem::path& db);

// Throws Error(storage) where that cannot be seen: no permission, a server that does not answer.
bool is_store_there(const std::filesystem::path& db);

// Version bytes of SQLite's header: 1 without, 2 with a write-ahead log (https://sqlite.org/fileformat2.html).
inline constexpr int kSqliteVersionBytes = 18;
bool has_write_ahead_log(const std::filesystem::path& db);  // or one lies beside it

}  // namespace tenfold

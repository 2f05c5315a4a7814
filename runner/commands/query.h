#pragma once

#include <filesystem>
#include <iosfwd>
#include <string>

namespace tenfold {

struct QueryOptions {
  std::filesystem::path db = "tenfold.db";
  std::string sql;               // "-": read from standard input
  std::string format = "table";  // table csv json
};

// `tenfold query`: one read-only SQL statement on the store.
int query_command(const QueryOptions& options, std::ostream& out);

}  // namespace tenfold

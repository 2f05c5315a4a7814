#include "runner/commands/query.h"

#include <iostream>
#include <sstream>

#include "db/query.h"
#include "experiments/error.h"

namespace tenfold {

int query_command(const QueryOptions& options, std::ostream& out) {
  std::string sql = options.sql;
  if (sql == "-") {
    std::ostringstream statement;
    statement << std::cin.rdbuf();
    sql = statement.str();
  }
  run_query(options.db, sql, options.format, out);
  return kExitDone;
}

}  // namespace tenfold

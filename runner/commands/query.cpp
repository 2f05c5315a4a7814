#include "runner/commands/query.h"

#include <iostream>
#include <iterator>

#include "db/query.h"
#include "experiments/error.h"

namespace tenfold {

int query_command(const QueryOptions& options, std::ostream& out) {
  std::string sql = options.sql;
  if (sql == "-") sql.assign(std::istreambuf_iterator<char>(std::cin), {});
  run_query(options.db, sql, options.format, out);
  return kExitDone;
}

}  // namespace tenfold

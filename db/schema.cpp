#include "db/schema.h"

#include <string>
#include <vector>

#include "db/sqlite.h"
#include "experiments/metric.h"

namespace tenfold {
namespace {

bool is_empty(Connection& connection) {
  return connection.integer("PRAGMA application_id") == 0 &&
         connection.integer("SELECT count(*) FROM sqlite_schema") == 0;
}

void set_version(Connection& connection, int version) {
  connection.execute("PRAGMA user_version = " + std::to_string(version));
}

[[noreturn]] void refuse(const Connection& connection, const std::string& why) {
  throw Error(ErrorKind::storage, connection.file().string() + ": " + why);
}

std::int64_t checked_version(Connection& connection) {
  if (connection.integer("PRAGMA application_id") != kApplicationId)
    refuse(connection, "is a database of another program, not a tenfold store; choose another file with --db");
  const std::int64_t version = connection.integer("PRAGMA user_version");
  if (version > kSchemaVersion)
    refuse(connection, "was written by a newer tenfold (schema " + std::to_string(version) + ", this program knows " +
                           std::to_string(kSchemaVersion) + "); update tenfold");
  return version;
}

// The table mirrors metric.h, so that SQL knows the directions. A newer program may know more metrics.
void write_metrics(Connection& connection) {
  Statement insert(connection,
                   "INSERT INTO metric(name, higher_is_better, counts, meaning) VALUES(?, ?, ?, ?) "
                   "ON CONFLICT(name) DO UPDATE SET higher_is_better = excluded.higher_is_better, "
                   "counts = excluded.counts, meaning = excluded.meaning WHERE meaning <> excluded.meaning "
                   "OR higher_is_better <> excluded.higher_is_better OR counts <> excluded.counts");
  for (const MetricInfo& metric : metrics())
    insert.bind(1, metric.name)
        .bind(2, std::int64_t{metric.higher_is_better})
        .bind(3, std::int64_t{metric.counts})
        .bind(4, metric.meaning)
        .run();
}

void bring_forward(Connection& connection) {
  const std::int64_t found = checked_version(connection);
  if (found == kSchemaVersion) return;
  if (found < 1)
    refuse(connection, "calls itself a tenfold store of version " + std::to_string(found) +
                           ", which never was; it is damaged: choose another file with --db");
  std::vector<std::string> views;
  {
    Statement select(connection, "SELECT name FROM sqlite_schema WHERE type = 'view'");
    while (select.next()) views.push_back(select.text(0));
  }
  for (const std::string& view : views) connection.execute("DROP VIEW \"" + view + "\"");
  for (std::int64_t version = found; version < kSchemaVersion; ++version)
    connection.execute(migrations()[static_cast<std::size_t>(version - 1)]);
  connection.execute(kViewsSql);
  set_version(connection, kSchemaVersion);
}

}  // namespace

void create_or_migrate(Connection& connection) {
  if (!is_empty(connection)) checked_version(connection);
  Transaction transaction(connection);
  if (is_empty(connection)) {  // asked again: another process may have been first
    connection.execute("PRAGMA application_id = " + std::to_string(kApplicationId));
    connection.execute(kTablesSql);
    connection.execute(kViewsSql);
    set_version(connection, kSchemaVersion);
  } else {
    bring_forward(connection);
  }
  write_metrics(connection);
  transaction.commit();
}

void check_is_store(Connection& connection) {
  if (is_empty(connection)) refuse(connection, "is empty; run an experiment first, or name its store with --db");
  checked_version(connection);
}

void check_is_current(Connection& connection, const char* reader) {
  check_is_store(connection);
  const std::int64_t version = connection.integer("PRAGMA user_version");
  if (version < kSchemaVersion)
    refuse(connection, "was written by an older tenfold (schema " + std::to_string(version) + "), before what " +
                           reader + " reads was recorded; `tenfold run` on its experiment file brings it forward");
}

}  // namespace tenfold

#include "db/merge_tables.h"

#include <algorithm>
#include <set>

namespace tenfold {
namespace {

constexpr std::string_view kTimes[] = {"wall_s"};

bool tells_time(const std::string& column) {
  return std::find(std::begin(kTimes), std::end(kTimes), column) != std::end(kTimes);
}

}  // namespace

std::vector<std::string> columns_of(Connection& connection, const std::string& table) {
  Statement select(connection, "SELECT name FROM pragma_table_info(?1, 'main') ORDER BY cid");
  select.bind(1, table);
  std::vector<std::string> columns;
  while (select.next()) columns.push_back(select.text(0));
  return columns;
}

std::string column_list(const std::vector<std::string>& columns, const std::vector<std::string_view>& left_out,
                        const std::string& prefix) {
  std::string list;
  for (const std::string& column : columns)
    if (std::find(left_out.begin(), left_out.end(), column) == left_out.end())
      list += (list.empty() ? "" : ", ") + prefix + "\"" + column + "\"";
  return list;
}

std::vector<std::string> row_tables(Connection& connection, const std::string& unit) {
  Statement select(connection,
                   "SELECT s.name FROM main.sqlite_schema s, pragma_table_info(s.name, 'main') c "
                   "WHERE s.type = 'table' AND c.cid = 0 AND c.name = ?1 ORDER BY 1");
  select.bind(1, unit);
  std::vector<std::string> tables;
  while (select.next()) tables.push_back(select.text(0));
  return tables;
}

void take_rows(Connection& connection, const std::string& unit) {
  for (const std::string& table : row_tables(connection, unit)) {
    const std::vector<std::string> columns = columns_of(connection, table);
    connection.execute("DELETE FROM main.\"" + table + "\" WHERE \"" + unit + "\" IN (SELECT new FROM temp.take_" +
                       unit + ")");
    connection.execute("INSERT INTO main.\"" + table + "\"(" + column_list(columns) + ") SELECT k.new, " +
                       column_list(columns, {unit}, "s.") + " FROM temp.take_" + unit + " k JOIN shard.\"" + table +
                       "\" s ON s.\"" + unit + "\" = k.old");
  }
}

std::vector<std::int64_t> differing_units(Connection& connection, const std::string& unit) {
  std::set<std::int64_t> differing;
  for (const std::string& table : row_tables(connection, unit)) {
    std::string values;
    for (const std::string& column : columns_of(connection, table))
      if (column != unit && !tells_time(column)) values += ", s.\"" + column + "\"";
    const std::string theirs = "SELECT b.new AS unit" + values + " FROM temp.both_" + unit + " b JOIN shard.\"" +
                               table + "\" s ON s.\"" + unit + "\" = b.old";
    const std::string ours = "SELECT b.new AS unit" + values + " FROM temp.both_" + unit + " b JOIN main.\"" + table +
                             "\" s ON s.\"" + unit + "\" = b.new";
    Statement select(connection, "SELECT DISTINCT unit FROM (" + theirs + " EXCEPT " + ours +
                                     ") UNION SELECT DISTINCT unit FROM (" + ours + " EXCEPT " + theirs + ")");
    while (select.next()) differing.insert(select.integer(0));
  }
  return {differing.begin(), differing.end()};
}

}  // namespace tenfold

#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "db/sqlite.h"

// Tables by their columns, whatever version of the schema brought them. Inside db only.
namespace tenfold {

// Of the main database; both stores are of the current version.
std::vector<std::string> columns_of(Connection& connection, const std::string& table);

// "a, b, c" without those in `left_out`, each behind `prefix`.
std::string column_list(const std::vector<std::string>& columns, const std::vector<std::string_view>& left_out = {},
                        const std::string& prefix = "");

// Tables of rows that belong to one fit or one trial: their first column is `unit` ("fit" or "trial").
std::vector<std::string> row_tables(Connection& connection, const std::string& unit);

// Copies the rows of every unit in temp.take_<unit>(old, new) from the attached store `shard`, instead of those that
// the main store has.
void take_rows(Connection& connection, const std::string& unit);

// Units of temp.both_<unit>(old, new) whose rows differ between the stores, times aside: their ids in the main store.
std::vector<std::int64_t> differing_units(Connection& connection, const std::string& unit);

}  // namespace tenfold

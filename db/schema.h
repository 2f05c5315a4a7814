#pragma once

#include <string>

namespace tenfold {

class Connection;

// Marks a file as ours ("tenf") and names the version of its tables.
inline constexpr int kApplicationId = 0x74656e66;
inline constexpr int kSchemaVersion = 1;

extern const char* const kSchemaSql;  // db/schema.sql

// Creates the tables in an empty database, brings an older store forward, and throws Error(storage) for a newer
// one or for a database of another program. In one transaction.
void create_or_migrate(Connection& connection);

// Throws Error(storage) unless the file is a store of this version.
void check_is_store(Connection& connection);

}  // namespace tenfold

#pragma once

#include <span>

namespace tenfold {

class Connection;

// Marks a file as ours ("tenf") and names the version of its tables.
inline constexpr int kApplicationId = 0x74656e66;
inline constexpr int kSchemaVersion = 4;

extern const char* const kTablesSql;  // db/schema.sql
extern const char* const kViewsSql;   // db/views.sql

// SQL that brings a store of version i + 1 to version i + 2, but for the views.
std::span<const char* const> migrations();

// Creates the tables in an empty database, brings an older store forward, and throws Error(storage) for a newer
// one or for a database of another program. In one transaction.
void create_or_migrate(Connection& connection);

// Throws Error(storage) unless the file is a store of this version or an older one.
void check_is_store(Connection& connection);

// Throws Error(storage) for an older store: what `reader` reads came later, and only a run brings a store forward.
void check_is_current(Connection& connection, const char* reader);

}  // namespace tenfold

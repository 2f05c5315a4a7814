#include "db/reader.h"

#include <utility>

#include "db/schema.h"
#include "db/sqlite.h"

namespace tenfold {

Reader::Reader(std::unique_ptr<Connection> connection) : connection_(std::move(connection)) {}
Reader::Reader(Reader&&) noexcept = default;
Reader& Reader::operator=(Reader&&) noexcept = default;
Reader::~Reader() = default;

Reader Reader::open(const std::filesystem::path& file) {
  auto connection = std::make_unique<Connection>(file, Connection::Access::read_only);
  connection->execute("PRAGMA query_only = ON");
  connection->execute("PRAGMA trusted_schema = OFF");  // the file may come from anywhere
  check_is_store(*connection);
  return Reader(std::move(connection));
}

const std::filesystem::path& Reader::file() const { return connection_->file(); }

}  // namespace tenfold

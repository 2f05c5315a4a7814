#include "db/query.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <vector>

#include "db/reader.h"
#include "db/sqlite.h"
#include "db/text_table.h"

namespace tenfold {
namespace {

constexpr std::size_t kSampledRows = 1000;  // that decide the widths of a table's columns
constexpr int kInstructionsPerLook = 10'000;

// PRAGMAs that only tell.
constexpr const char* kReadingPragmas[] = {"table_info",      "table_xinfo",  "table_list",       "index_list",
                                           "index_info",      "index_xinfo",  "foreign_key_list", "database_list",
                                           "function_list",   "user_version", "application_id",   "compile_options",
                                           "integrity_check", "quick_check",  "foreign_key_check"};
// They tell with an argument as well; the others would set something.
constexpr const char* kNamedPragmas[] = {"table_info", "table_xinfo", "index_list",
                                         "index_info", "index_xinfo", "foreign_key_list"};

template <std::size_t N>
bool among(const char* name, const char* const (&names)[N]) {
  return std::any_of(names, names + N, [&](const char* other) { return sqlite3_stricmp(name, other) == 0; });
}

int authorize(void*, int action, const char* first, const char* second, const char*, const char*) {
  switch (action) {
    case SQLITE_SELECT:
    case SQLITE_READ:
    case SQLITE_RECURSIVE:
      return SQLITE_OK;
    case SQLITE_UPDATE:
      // SQLite asks this when it declares the columns of pragma_table_info() and the like, in memory. A statement
      // that would write the table itself is refused all the same: the connection is read-only.
      return first != nullptr && std::strcmp(first, "sqlite_master") == 0 ? SQLITE_OK : SQLITE_DENY;
    case SQLITE_FUNCTION: {
      constexpr const char* kRefused[] = {"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"};
      return second != nullptr && among(second, kRefused) ? SQLITE_DENY : SQLITE_OK;
    }
    case SQLITE_PRAGMA:
      if (first == nullptr || !among(first, kReadingPragmas)) return SQLITE_DENY;
      return second == nullptr || among(first, kNamedPragmas) ? SQLITE_OK : SQLITE_DENY;
    default:
      return SQLITE_DENY;
  }
}

int look(void* interrupted) { return static_cast<const std::atomic<bool>*>(interrupted)->load() ? 1 : 0; }

[[noreturn]] void refuse(const std::string& message) { throw Error(ErrorKind::config, "query: " + message); }

struct FinalizeStatement {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using OwnedStatement = std::unique_ptr<sqlite3_stmt, FinalizeStatement>;

OwnedStatement prepare(sqlite3* db, const std::string& sql) {
  const char* rest = sql.c_str();
  const char* const end = sql.c_str() + sql.size();
  if (sql.find('\0') != std::string::npos) refuse("the SQL holds a zero byte");
  OwnedStatement statement;
  while (rest < end) {
    sqlite3_stmt* raw = nullptr;
    const int code = sqlite3_prepare_v2(db, rest, static_cast<int>(end - rest), &raw, &rest);
    OwnedStatement next(raw);
    if ((code & 0xff) == SQLITE_AUTH)
      refuse("only statements that read are allowed here: " + std::string(sqlite3_errmsg(db)));
    if (code != SQLITE_OK && statement) refuse("one statement at a time; end after the first ';'");
    if (code != SQLITE_OK) refuse(std::string(sqlite3_errmsg(db)) + "; the tables and columns are in db/SCHEMA.md");
    if (!next) continue;  // a comment or blanks
    if (statement) refuse("one statement at a time; end after the first ';'");
    statement = std::move(next);
  }
  if (!statement) refuse("there is no statement; try: SELECT * FROM trial_summary LIMIT 5");
  if (sqlite3_column_count(statement.get()) == 0 || sqlite3_stmt_readonly(statement.get()) == 0)
    refuse("only statements that read are allowed here");
  return statement;
}

std::string hex(const void* data, int size) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (int i = 0; i < size; ++i) {
    const auto byte = static_cast<const unsigned char*>(data)[i];
    text += {kDigits[byte >> 4], kDigits[byte & 15]};
  }
  return text;
}

std::string_view text_of(sqlite3_stmt* statement, int column) {
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, column));
  return text == nullptr ? std::string_view() : std::string_view(text, sqlite3_column_bytes(statement, column));
}

// The value as text; `exact` writes doubles so that they read back equal.
std::string value_text(sqlite3_stmt* statement, int column, bool exact) {
  switch (sqlite3_column_type(statement, column)) {
    case SQLITE_NULL:
      return "";
    case SQLITE_FLOAT: {
      const double value = sqlite3_column_double(statement, column);
      return exact ? exact_number(value) : short_number(value);
    }
    case SQLITE_BLOB:
      return hex(sqlite3_column_blob(statement, column), sqlite3_column_bytes(statement, column));
    default:
      return std::string(text_of(statement, column));
  }
}

class RowWriter {
 public:
  explicit RowWriter(std::ostream& out) : out_(out) {}
  virtual ~RowWriter() = default;
  virtual void row(sqlite3_stmt* statement) = 0;
  virtual void finish() = 0;

 protected:
  std::ostream& out_;
};

class TableWriter : public RowWriter {
 public:
  TableWriter(std::ostream& out, const std::vector<std::string>& names) : RowWriter(out) {
    for (const std::string& name : names) names_.push_back(printable(name));
    for (const std::string& name : names_) widths_.push_back(display_width(name));
    right_.resize(names_.size(), false);
  }

  void row(sqlite3_stmt* statement) override {
    std::vector<std::string> cells;
    for (std::size_t i = 0; i < names_.size(); ++i) {
      const int type = sqlite3_column_type(statement, static_cast<int>(i));
      if (!started_ && (type == SQLITE_INTEGER || type == SQLITE_FLOAT)) right_[i] = true;
      cells.push_back(printable(value_text(statement, static_cast<int>(i), false)));
    }
    if (started_) return write(cells);
    for (std::size_t i = 0; i < cells.size(); ++i) widths_[i] = std::max(widths_[i], display_width(cells[i]));
    sample_.push_back(std::move(cells));
    if (sample_.size() == kSampledRows) start();
  }

  void finish() override {
    if (!started_) start();
  }

 private:
  void start() {
    started_ = true;
    write(names_);
    std::vector<std::string> rule;
    for (const std::size_t width : widths_) rule.emplace_back(width, '-');
    write(rule);
    for (const auto& cells : sample_) write(cells);
    sample_.clear();
  }

  void write(const std::vector<std::string>& cells) {
    std::string line;
    for (std::size_t i = 0; i < cells.size(); ++i) line += (i == 0 ? "" : "  ") + pad(cells[i], widths_[i], right_[i]);
    line.erase(line.find_last_not_of(' ') + 1);
    out_ << line << '\n';
  }

  std::vector<std::string> names_;
  std::vector<std::size_t> widths_;
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> sample_;
  bool started_ = false;
};

class CsvWriter : public RowWriter {
 public:
  CsvWriter(std::ostream& out, const std::vector<std::string>& names) : RowWriter(out) { write(names); }

  void row(sqlite3_stmt* statement) override {
    std::vector<std::string> cells;
    for (int i = 0; i < sqlite3_column_count(statement); ++i) cells.push_back(value_text(statement, i, true));
    write(cells);
  }
  void finish() override {}

 private:
  void write(const std::vector<std::string>& cells) {
    std::string line;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      if (i > 0) line += ',';
      if (cells[i].find_first_of(",\"\n\r") == std::string::npos) {
        line += cells[i];
        continue;
      }
      line += '"';
      for (const char c : cells[i]) line += c == '"' ? std::string("\"\"") : std::string(1, c);
      line += '"';
    }
    out_ << line << '\n';
  }
};

class JsonWriter : public RowWriter {
 public:
  // An object's keys must differ: a second `loss` becomes `loss_2`.
  JsonWriter(std::ostream& out, const std::vector<std::string>& names) : RowWriter(out) {
    std::set<std::string> used;
    for (const std::string& name : names) {
      std::string unique = name;
      for (int i = 2; !used.insert(unique).second; ++i) unique = name + "_" + std::to_string(i);
      keys_.push_back(json_text(unique));
    }
    out_ << '[';
  }

  void row(sqlite3_stmt* statement) override {
    std::string line = first_ ? "\n  {" : ",\n  {";
    first_ = false;
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      const int column = static_cast<int>(i);
      line += (i == 0 ? "" : ", ") + keys_[i] + ": ";
      switch (sqlite3_column_type(statement, column)) {
        case SQLITE_NULL:
          line += "null";
          break;
        case SQLITE_INTEGER:
          line += value_text(statement, column, true);
          break;
        case SQLITE_FLOAT: {
          const double value = sqlite3_column_double(statement, column);
          line += std::isfinite(value) ? exact_number(value) : "null";  // JSON knows no infinity
          break;
        }
        default:
          line += json_text(value_text(statement, column, true));
      }
    }
    out_ << line << '}';
  }
  void finish() override { out_ << (first_ ? "]\n" : "\n]\n"); }

 private:
  static std::string json_text(const std::string& text) {
    return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
  std::vector<std::string> keys_;
  bool first_ = true;
};

std::unique_ptr<RowWriter> make_writer(const std::string& format, std::ostream& out,
                                       const std::vector<std::string>& names) {
  if (format == "table") return std::make_unique<TableWriter>(out, names);
  if (format == "csv") return std::make_unique<CsvWriter>(out, names);
  if (format == "json") return std::make_unique<JsonWriter>(out, names);
  refuse("unknown format '" + format + "'; allowed: table, csv, json");
}

}  // namespace

void run_query(const std::filesystem::path& db, const std::string& sql, const std::string& format, std::ostream& out,
               const std::atomic<bool>* interrupted) {
  Reader reader = Reader::open(db);
  sqlite3* const handle = reader.connection().handle();
  sqlite3_db_config(handle, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, nullptr);
  sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_limit(handle, SQLITE_LIMIT_ATTACHED, 0);
  sqlite3_set_authorizer(handle, authorize, nullptr);
  if (interrupted != nullptr)
    sqlite3_progress_handler(handle, kInstructionsPerLook, look, const_cast<std::atomic<bool>*>(interrupted));
  const OwnedStatement statement = prepare(handle, sql);
  std::vector<std::string> names;
  for (int i = 0; i < sqlite3_column_count(statement.get()); ++i)
    names.emplace_back(sqlite3_column_name(statement.get(), i));
  const std::unique_ptr<RowWriter> writer = make_writer(format, out, names);
  int code = SQLITE_ROW;
  while (out.good() && (code = sqlite3_step(statement.get())) == SQLITE_ROW) writer->row(statement.get());
  if ((code & 0xff) == SQLITE_INTERRUPT) refuse("interrupted");
  if ((code & 0xff) == SQLITE_ERROR) refuse(sqlite3_errmsg(handle));
  if (code != SQLITE_DONE && code != SQLITE_ROW) reader.connection().fail(code, "run the query");
  writer->finish();
}

}  // namespace tenfold

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "db/query.h"
#include "tests/db/filled_store.h"
#include "tests/db/store_fixture.h"

namespace tenfold {
namespace {

std::string document() {
  const char* source = std::getenv("TENFOLD_SOURCE_DIR");
  std::ifstream in(std::filesystem::path(source != nullptr ? source : ".") / "db/SCHEMA.md");
  EXPECT_TRUE(in) << "run by ctest, which sets TENFOLD_SOURCE_DIR";
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::vector<std::string> sql_blocks(const std::string& text) {
  std::vector<std::string> blocks;
  for (std::size_t at = text.find("```sql\n"); at != std::string::npos; at = text.find("```sql\n", at)) {
    at += 7;
    const std::size_t end = text.find("```", at);
    blocks.push_back(text.substr(at, end - at));
    at = end;
  }
  return blocks;
}

TEST(SchemaDocumentTest, ExplainsEveryTableViewAndColumn) {
  TemporaryFolder folder;
  Store::open(folder / "a.db");
  const std::string text = document();
  for (const std::string& table :
       rows_of(folder / "a.db",
               "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite%'")) {
    const std::size_t begin = text.find("**" + table + "**");
    ASSERT_NE(begin, std::string::npos) << table << " is not explained";
    const std::string part = text.substr(begin, text.find("\n\n", begin) - begin);
    for (const std::string& column : rows_of(folder / "a.db", "SELECT name FROM pragma_table_info('" + table + "')"))
      EXPECT_NE(part.find("`" + column + "`"), std::string::npos) << table << "." << column << " is not explained";
  }
}

TEST(SchemaDocumentTest, ItsQueriesRunAndAnswer) {
  TemporaryFolder folder;
  fill_store(folder / "a.db");
  const std::vector<std::string> blocks = sql_blocks(document());
  EXPECT_EQ(blocks.size(), 13u);
  for (const std::string& sql : blocks) {
    std::ostringstream out;
    ASSERT_NO_THROW(run_query(folder / "a.db", sql, "csv", out)) << sql;
    const std::string answer = out.str();
    EXPECT_GE(std::count(answer.begin(), answer.end(), '\n'), 2) << "no row for\n" << sql;
  }
}

}  // namespace
}  // namespace tenfold

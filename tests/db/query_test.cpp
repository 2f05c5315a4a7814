#include "db/query.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "db/reader.h"
#include "db/schema.h"
#include "tests/db/store_fixture.h"

namespace tenfold {
namespace {

using ::testing::HasSubstr;

class QueryTest : public ::testing::Test {
 protected:
  QueryTest() : db(folder / "a.db") {
    const SmallExperiment small;
    Store::open(db).register_plan(small.experiment, small.plan);
  }
  std::string query(const std::string& sql, const std::string& format = "csv") {
    std::ostringstream out;
    run_query(db, sql, format, out);
    return out.str();
  }
  TemporaryFolder folder;
  std::filesystem::path db;
};

TEST_F(QueryTest, WritesEveryFormat) {
  EXPECT_EQ(query("SELECT 1 AS a, 'x,\"y' AS b, NULL AS c, 0.1 AS d", "csv"), "a,b,c,d\n1,\"x,\"\"y\",,0.1\n");
  const auto json = nlohmann::json::parse(query("SELECT 1 AS a, 'é\n' AS b, NULL AS c, 0.1 AS d, 2 AS a", "json"));
  EXPECT_EQ(json, nlohmann::json::parse(R"([{"a": 1, "b": "é\n", "c": null, "d": 0.1, "a_2": 2}])"));
  EXPECT_EQ(query("SELECT 1 AS number, 'é' AS text UNION ALL SELECT 20, 'abcdefg'", "table"),
            "number  text\n------  -------\n     1  é\n    20  abcdefg\n");
  EXPECT_EQ(query("SELECT 1 WHERE 0", "json"), "[]\n");
  EXPECT_THAT(error_of([&] { query("SELECT 1", "xml"); }), HasSubstr("table, csv, json"));
}

TEST_F(QueryTest, AStoredTextCannotSteerATerminal) {
  EXPECT_THAT(query("SELECT char(27) || '[31mred' AS x", "table"), HasSubstr("\\x1B[31mred"));
}

TEST_F(QueryTest, StreamsMoreRowsThanTheSample) {
  const std::string text =
      query("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT i FROM n", "table");
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 5002);
}

TEST_F(QueryTest, AllowsReading) {
  EXPECT_EQ(query("SELECT count(*) AS n FROM trial"), "n\n6\n");
  EXPECT_THAT(query("-- what is there?\nPRAGMA table_info(trial);  "), HasSubstr("configuration"));
  EXPECT_THAT(query("EXPLAIN QUERY PLAN SELECT * FROM trial WHERE id = 1"), HasSubstr("SEARCH"));
  EXPECT_THAT(query("SELECT name FROM pragma_table_info('trial')"), HasSubstr("identity"));
  EXPECT_THAT(query("SELECT sql FROM sqlite_schema"), HasSubstr("CREATE TABLE"));
}

TEST_F(QueryTest, RefusesEverythingElse) {
  const std::string other = (folder / "other.db").string();
  for (const std::string& sql : {
           std::string("INSERT INTO event(at, kind, detail) VALUES('', '', '')"),
           std::string("DELETE FROM trial"),
           std::string("UPDATE trial SET status = 'done' RETURNING id"),
           std::string("DROP TABLE trial"),
           std::string("UPDATE sqlite_master SET sql = ''"),
           std::string("CREATE TABLE t(x)"),
           std::string("CREATE TEMP TABLE t(x)"),
           "ATTACH '" + other + "' AS other",
           std::string("DETACH main"),
           "VACUUM INTO '" + other + "'",
           std::string("PRAGMA journal_mode = DELETE"),
           std::string("PRAGMA query_only = OFF"),
           std::string("PRAGMA user_version = 5"),
           std::string("PRAGMA writable_schema = ON"),
           std::string("PRAGMA wal_checkpoint(TRUNCATE)"),
           "PRAGMA temp_store_directory = '" + folder.path().string() + "'",
           std::string("SELECT load_extension('x')"),
           std::string("SELECT fts3_tokenizer('simple')"),
           "SELECT writefile('" + other + "', 'x')",
           std::string("BEGIN"),
           std::string("SELECT 1; SELECT 2"),
           std::string("SELECT 1; DROP TABLE trial"),
           std::string("SELECT 1; garbage"),
           std::string(""),
           std::string("-- nothing"),
           std::string("SELECT nonsense FROM trial"),
       })
    EXPECT_THROW(query(sql), Error) << sql;
  EXPECT_FALSE(std::filesystem::exists(other));
  EXPECT_EQ(query("SELECT count(*) AS n FROM trial"), "n\n6\n");
  EXPECT_EQ(integer_of(db, "PRAGMA user_version"), kSchemaVersion);
}

TEST_F(QueryTest, CanBeInterrupted) {
  std::atomic<bool> interrupted = true;
  std::ostringstream out;
  EXPECT_THAT(error_of([&] {
                run_query(db, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
                          "csv", out, &interrupted);
              }),
              HasSubstr("interrupted"));
}

TEST(ReaderTest, SaysWhatIsWrongWithTheFile) {
  TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { Reader::open(folder / "none.db"); }), HasSubstr("there is no such store"));
  EXPECT_FALSE(std::filesystem::exists(folder / "none.db"));
  std::ofstream(folder / "text.db") << std::string(5000, 'x');
  EXPECT_THAT(error_of([&] { Reader::open(folder / "text.db"); }), HasSubstr("no tenfold store"));
  std::ofstream(folder / "empty.db");
  EXPECT_THAT(error_of([&] { Reader::open(folder / "empty.db"); }), HasSubstr("is empty"));
  std::filesystem::create_directory(folder / "folder.db");
  EXPECT_THROW(Reader::open(folder / "folder.db"), Error);
}

TEST(ReaderTest, ReadsBesideAWriter) {
  TemporaryFolder folder;
  Store store = Store::open(folder / "a.db");
  store.begin();
  store.add_event(std::nullopt, "note", "not yet visible");
  std::ostringstream out;
  run_query(folder / "a.db", "SELECT count(*) AS n FROM event", "csv", out);
  EXPECT_EQ(out.str(), "n\n0\n");
  store.commit();
  run_query(folder / "a.db", "SELECT count(*) AS n FROM event", "csv", out);
  EXPECT_EQ(out.str(), "n\n0\nn\n1\n");
}

}  // namespace
}  // namespace tenfold

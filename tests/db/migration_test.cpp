#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "db/reader.h"
#include "db/schema.h"
#include "tests/db/store_fixture.h"

namespace tenfold {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The schema as version 1 was released, never to be edited.
std::string first_schema() {
  const char* source = std::getenv("TENFOLD_SOURCE_DIR");
  std::ifstream in(std::filesystem::path(source != nullptr ? source : ".") / "tests/db/schema_1.sql");
  EXPECT_TRUE(in) << "run by ctest, which sets TENFOLD_SOURCE_DIR";
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

// A store of version 1 with one experiment that was run to its end.
void write_first_store(const std::filesystem::path& db) {
  Connection old(db, Connection::Access::read_write);
  old.execute("PRAGMA application_id = " + std::to_string(kApplicationId));
  old.execute(first_schema());
  old.execute("PRAGMA user_version = 1");
  old.execute(R"sql(
    INSERT INTO metric VALUES('accuracy', 1, 1, 'share');
    INSERT INTO dataset VALUES(1, 'f1', 90, '5', 3);
    INSERT INTO experiment VALUES(1, 'old', 1, 'run', 'then', 'then');
    INSERT INTO configuration VALUES(1, 1, 'base', 1, 0, 'tent', 'c1', '{}');
    INSERT INTO fold VALUES(1, 1, 0, 0, 'h', 1, 60, 0, 30);
    INSERT INTO fit VALUES(1, 'i1', 'done', 0, 0, 'h', 7, 'k', NULL);
    INSERT INTO trial VALUES(1, 1, 1, 0, 0, 1, 1, 't1', 'done', 7, 1, 'k', NULL);
    INSERT INTO train_step VALUES(1, 1, 0, 2.5, 0.001, 1.0, 0.1), (1, 2, 0, 2.25, 0.001, 1.0, 0.1);
    INSERT INTO evaluation VALUES(1, 'after', 3, 'accuracy', 0.75, 75, 100);
    INSERT INTO fit VALUES(2, 'i2', 'done', 0, 1, 'h', 7, 'k', NULL);
    INSERT INTO attempt(fit, number, rank, host, pid, device, slot, log, started_at, outcome, reason)
      VALUES(1, 1, 1, 'h', 9, 'cpu', 0, 'log', 'then', 'done', 'the training was early'),
            (2, 1, 1, 'h', 9, 'cpu', 0, 'log', 'then', 'done', 'inf at update 100 %');
    INSERT INTO event(at, trial, kind, detail)
      VALUES('then', NULL, 'stopped_nonfinite', 'fit 2 was stopped: inf at update 100 %');
  )sql");
}

// Names, types and keys of all columns, and the text of views and indices: what a store offers, however it was made.
std::vector<std::string> shape_of(const std::filesystem::path& db) {
  std::vector<std::string> shape = rows_of(
      db,
      "SELECT s.name, c.cid, c.name, c.type, c.\"notnull\", c.pk FROM sqlite_schema s, pragma_table_xinfo(s.name) c "
      "WHERE s.type = 'table' ORDER BY s.name, c.cid");
  for (const std::string& other :
       rows_of(db, "SELECT name, sql FROM sqlite_schema WHERE type IN ('view', 'index') ORDER BY name"))
    shape.push_back(other);
  return shape;
}

class MigrationTest : public ::testing::Test {
 protected:
  MigrationTest() : db(folder / "old.db") { write_first_store(db); }
  TemporaryFolder folder;
  std::filesystem::path db;
};

TEST_F(MigrationTest, AStoreOfVersionOneComesForwardWithItsRows) {
  Store::open(db);
  EXPECT_EQ(integer_of(db, "PRAGMA user_version"), kSchemaVersion);
  EXPECT_THAT(rows_of(db, "SELECT fingerprint, samples, classes, kind IS NULL, steps IS NULL FROM dataset"),
              ElementsAre("f1|90|3|1|1"));
  EXPECT_THAT(rows_of(db, "SELECT label, method, parameters IS NULL FROM configuration"), ElementsAre("base|tent|1"));
  EXPECT_THAT(rows_of(db, "SELECT step, loss FROM trial_train_step"), ElementsAre("1|2.5", "2|2.25"));
  EXPECT_THAT(rows_of(db, "SELECT metric, mean, folds FROM leaderboard"), ElementsAre("accuracy|0.75|1"));
  EXPECT_EQ(integer_of(db, "SELECT count(*) FROM inner_loss"), 0);
  EXPECT_THAT(rows_of(db, "SELECT id, stopped_nonfinite FROM fit"), ElementsAre("1|0", "2|1"));
  EXPECT_TRUE(rows_of(db, "PRAGMA foreign_key_check").empty());
  EXPECT_THAT(rows_of(db, "PRAGMA integrity_check"), ElementsAre("ok"));
}

TEST_F(MigrationTest, ItThenIsAsOneMadeAnew) {
  Store::open(db);
  Store::open(folder / "new.db");
  EXPECT_THAT(shape_of(db), ::testing::ElementsAreArray(shape_of(folder / "new.db")));
}

TEST_F(MigrationTest, AKnownDatasetLearnsWhatItHolds) {
  const SmallExperiment small;
  {
    Store store = Store::open(db);
    Connection(db, Connection::Access::read_write)
        .execute("UPDATE dataset SET fingerprint = '" + small.plan.datasets[0].fingerprint.hex() + "'");
    store.register_plan(small.experiment, small.plan);
  }
  EXPECT_THAT(rows_of(db, "SELECT id, kind, label_kind, steps, shortest, longest FROM dataset"),
              ElementsAre("1|fixed|sample|90|1|1"));
}

TEST_F(MigrationTest, ReadersLeaveAnOldStoreAsItIs) {
  { const Reader reader = Reader::open(db); }
  EXPECT_EQ(integer_of(db, "PRAGMA user_version"), 1);
  Connection connection(db, Connection::Access::read_only);
  EXPECT_THAT(error_of([&] { check_is_current(connection, "`tenfold diagnose`"); }),
              ::testing::AllOf(HasSubstr("older tenfold (schema 1)"), HasSubstr("tenfold run")));
}

TEST_F(MigrationTest, AVersionThatNeverWasIsRefused) {
  Connection(db, Connection::Access::read_write).execute("PRAGMA user_version = 0");
  EXPECT_THAT(error_of([&] { Store::open(db); }), HasSubstr("never was"));
}

}  // namespace
}  // namespace tenfold

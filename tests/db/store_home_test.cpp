#include "db/store_home.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <optional>
#include <thread>

#include "db/file_system.h"
#include "db/publisher.h"
#include "db/reader.h"
#include "db/writer.h"
#include "tests/db/store_fixture.h"

namespace tenfold {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class StoreHomeTest : public ::testing::Test {
 protected:
  StoreHomeTest() {
    std::filesystem::create_directories(node);
    setenv("TMPDIR", node.c_str(), 1);
    setenv("TENFOLD_PUBLISH", "always", 1);
  }
  ~StoreHomeTest() override {
    unsetenv("TENFOLD_PUBLISH");
    unsetenv("TMPDIR");
  }
  std::vector<std::string> on_node() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(node)) names.push_back(entry.path().filename());
    return names;
  }
  std::vector<std::string> beside_the_store() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(db.parent_path()))
      names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }

  TemporaryFolder folder;
  std::filesystem::path node = folder / "node", db = folder / "shared" / "a.db";
  bool made_ = std::filesystem::create_directories(folder / "shared");
};

TEST_F(StoreHomeTest, PublishesWholeCopiesAndStartsFromThem) {
  const SmallExperiment small;
  const RunLock lock = RunLock::acquire(db);
  {
    const StoreHome home(db, lock);
    EXPECT_TRUE(home.is_published());
    EXPECT_EQ(home.live().parent_path().parent_path(), node);
    Store store = Store::open(home);
    EXPECT_EQ(store.file(), db);
    store.register_plan(small.experiment, small.plan);
    EXPECT_FALSE(std::filesystem::exists(db));
    home.publish();
    EXPECT_EQ(integer_of(db, "SELECT count(*) FROM experiment"), 1);
    store.begin();
    store.add_event(std::nullopt, "note", "later");
    store.commit();
    EXPECT_EQ(integer_of(db, "SELECT count(*) FROM event"), 0);  // what is published stays as it is
    home.publish();
    EXPECT_EQ(integer_of(db, "SELECT count(*) FROM event"), 1);
  }
  EXPECT_THAT(on_node(), IsEmpty());
  EXPECT_FALSE(has_write_ahead_log(db));
  EXPECT_THAT(beside_the_store(), ElementsAre("a.db", "a.db.lease", "a.db.lock"));
  const StoreHome again(db, lock);
  Store store = Store::open(again);
  EXPECT_TRUE(store.register_plan(small.experiment, small.plan).existed);
  EXPECT_EQ(integer_of(again.live(), "SELECT count(*) FROM event"), 1);
}

// A reader that has opened a copy reads that one to its end, whatever is published meanwhile.
TEST_F(StoreHomeTest, AReaderKeepsTheCopyItOpened) {
  const SmallExperiment small;
  const RunLock lock = RunLock::acquire(db);
  const StoreHome home(db, lock);
  Store store = Store::open(home);
  store.register_plan(small.experiment, small.plan);
  home.publish();
  Reader reader = Reader::open(db);
  store.begin();
  for (int i = 0; i < 1000; ++i) store.add_event(std::nullopt, "note", std::string(500, 'x'));
  store.commit();
  home.publish();
  EXPECT_EQ(reader.connection().integer("SELECT count(*) FROM event"), 0);
  EXPECT_EQ(Reader::open(db).connection().integer("SELECT count(*) FROM event"), 1000);
}

// A store that a killed run left with its log, before it was to be published.
TEST_F(StoreHomeTest, TakesUpAStoreThatWasWrittenInPlace) {
  const SmallExperiment small;
  std::filesystem::create_directories(folder / "direct");
  const std::filesystem::path written = folder / "direct" / "a.db";
  setenv("TENFOLD_PUBLISH", "never", 1);
  Store direct = Store::open(written);
  direct.register_plan(small.experiment, small.plan);
  for (const char* part : {"", "-wal"})
    std::filesystem::copy_file(written.string() + part, db.string() + part);  // as a kill leaves it
  setenv("TENFOLD_PUBLISH", "always", 1);
  EXPECT_TRUE(has_write_ahead_log(db));
  const RunLock lock = RunLock::acquire(db);
  const StoreHome home(db, lock);
  EXPECT_EQ(integer_of(home.live(), "SELECT count(*) FROM experiment"), 1);
  EXPECT_FALSE(has_write_ahead_log(db));
  EXPECT_EQ(integer_of(db, "SELECT count(*) FROM experiment"), 1);
}

TEST_F(StoreHomeTest, LeftoversOfTheDeadAreRemovedAndThoseOfTheLivingKept) {
  const RunLock lock = RunLock::acquire(db);
  const StoreHome living(db, lock);
  std::filesystem::create_directories(node / "tenfold-live-dead00");
  std::ofstream(node / "tenfold-live-dead00" / "held") << "";
  std::filesystem::create_directories(node / "tenfold-unpublished-x");
  std::ofstream(folder / "shared" / "a.db.publishing.tenfold-live-dead00") << "half";
  std::filesystem::create_directories(folder / "other");
  const std::filesystem::path other = folder / "other" / "b.db";
  const RunLock second = RunLock::acquire(other);
  { const StoreHome home(other, second); }
  EXPECT_TRUE(std::filesystem::exists(living.live().parent_path()));
  EXPECT_FALSE(std::filesystem::exists(node / "tenfold-live-dead00"));
  EXPECT_TRUE(std::filesystem::exists(node / "tenfold-unpublished-x"));
  const StoreHome again(db, lock);
  EXPECT_FALSE(std::filesystem::exists(folder / "shared" / "a.db.publishing.tenfold-live-dead00"));
}

TEST_F(StoreHomeTest, FilesAreRemovedOnlyWhenNoPublishedCopyNamesThem) {
  const SmallExperiment small;
  const RunLock lock = RunLock::acquire(db);
  StoreHome home(db, lock);
  Store store = Store::open(home);
  const RegisteredPlan plan = store.register_plan(small.experiment, small.plan);
  std::filesystem::create_directories(checkpoint_folder(db));
  for (const char* name : {"c1", "c2", "c3"}) std::ofstream(checkpoint_folder(db) / name) << "x";
  StoreWriter writer(std::move(store), &home);
  const RowId fit = plan.fits[0].id;
  writer.submit(BeginAttempt{1, {UnitKind::fit, fit, 1, 1, "host", 42, "cpu", 0, "log", -1}});
  for (int step = 1; step <= 3; ++step) {
    const std::string name = "c" + std::to_string(step);
    writer.submit(CheckpointRecord{UnitKind::fit, fit, 1, {name, 0, step, "s", 1}, 1, 0});
    writer.flush();
    // At every instant what the published copy names is there.
    for (const std::string& path : rows_of(db, "SELECT path FROM checkpoint"))
      EXPECT_TRUE(std::filesystem::exists(checkpoint_folder(db) / path)) << path;
  }
  EXPECT_THAT(rows_of(db, "SELECT path FROM checkpoint"), ElementsAre("c3"));
  EXPECT_FALSE(std::filesystem::exists(checkpoint_folder(db) / "c1"));
  EXPECT_FALSE(std::filesystem::exists(checkpoint_folder(db) / "c2"));
}

TEST_F(StoreHomeTest, CommitsAreOnTheirWayWithoutBeingAskedFor) {
  const SmallExperiment small;
  const RunLock lock = RunLock::acquire(db);
  StoreHome home(db, lock);
  Store store = Store::open(home);
  store.register_plan(small.experiment, small.plan);
  StoreWriter writer(std::move(store), &home);
  writer.submit(AddEvent{std::nullopt, "note", "hello"});
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!std::filesystem::exists(db) && std::chrono::steady_clock::now() < limit)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(integer_of(db, "SELECT count(*) FROM event"), 1);
}

TEST_F(StoreHomeTest, LosingTheStoreToAnotherHostEndsTheWriting) {
  const SmallExperiment small;
  const RunLock lock = RunLock::acquire(db);
  StoreHome home(db, lock);
  Store store = Store::open(home);
  store.register_plan(small.experiment, small.plan);
  home.publish();
  StoreWriter writer(std::move(store), &home);
  std::filesystem::remove(db.string() + ".lease");
  std::ofstream(db.string() + ".lease") << R"({"host": "node-9", "pid": 3, "started_at": "2026"})";
  EXPECT_THAT(error_of([&] {
                for (int i = 0; i < 2; ++i) {
                  writer.submit(AddEvent{std::nullopt, "note", "late"});
                  writer.flush();
                }
              }),
              AllOf(HasSubstr("taken over by pid 3 on host node-9"), HasSubstr("a.db")));
  EXPECT_EQ(integer_of(db, "SELECT count(*) FROM event"), 0);
}

// A server that has its moments: what cannot be seen now is not lost.
TEST_F(StoreHomeTest, ALeaseThatCannotBeReadForAWhileIsNotLost) {
  const SmallExperiment small;
  const RunLock lock = RunLock::acquire(db);
  StoreHome home(db, lock);
  Store store = Store::open(home);
  store.register_plan(small.experiment, small.plan);
  const std::filesystem::path lease = db.string() + ".lease", aside = folder / "lease";
  std::filesystem::rename(lease, aside);
  std::filesystem::create_directory(lease);
  EXPECT_THAT(error_of([&] { home.publish(); }), AllOf(HasSubstr("a.db.lease"), HasSubstr("cannot be renewed")));
  EXPECT_FALSE(home.is_lost());
  std::filesystem::remove(lease);
  std::filesystem::rename(aside, lease);
  home.publish();
  EXPECT_TRUE(std::filesystem::exists(db));
}

TEST(FileSystemTest, IsNamedAndMayBeOverruled) {
  EXPECT_FALSE(file_system_of("/dev/shm/not/there/yet.db").network);
  EXPECT_EQ(file_system_of("/dev/shm/x.db").name, "tmpfs");
  setenv("TENFOLD_PUBLISH", "sometimes", 1);
  EXPECT_THAT(error_of([] { is_store_published("/tmp/x.db"); }), HasSubstr("auto, always and never"));
  unsetenv("TENFOLD_PUBLISH");
  EXPECT_FALSE(is_store_published("/dev/shm/x.db"));
}

}  // namespace
}  // namespace tenfold

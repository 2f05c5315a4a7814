#include "db/writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <fstream>
#include <random>
#include <thread>

#include "tests/db/store_fixture.h"
#include "tests/missing.h"

namespace tenfold {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kBlock = 20;

BeginAttempt begin_command(std::uint64_t key, UnitKind kind, RowId unit) {
  return {key, {kind, unit, 1, 1, "host", 42, "cpu", 0, "log", -1}};
}

std::vector<TrainStepRow> block_of(std::int64_t number) {
  std::vector<TrainStepRow> rows;
  for (int i = 0; i < kBlock; ++i) rows.push_back(train_row(number * kBlock + i + 1, 1.0));
  return rows;
}

TEST(WriterTest, AppliesCommandsInOrderAndTranslatesAttemptKeys) {
  TemporaryFolder folder;
  const std::filesystem::path db = folder / "a.db";
  const SmallExperiment small;
  Store store = Store::open(db);
  const RegisteredPlan plan = store.register_plan(small.experiment, small.plan);
  std::filesystem::create_directories(checkpoint_folder(db));
  for (const char* name : {"c1", "c2"}) std::ofstream(checkpoint_folder(db) / name) << "x";
  StoreWriter writer(std::move(store));
  const RowId fit = plan.fits[0].id;
  constexpr std::uint64_t kKey = 7'000'000'001;
  EXPECT_EQ(writer.submit(begin_command(kKey, UnitKind::fit, fit)), 1u);
  EXPECT_EQ(writer.submit(AddTrainSteps{fit, block_of(0)}), 2u);
  writer.submit(CheckpointRecord{UnitKind::fit, fit, kKey, {"c1", 0, 20, "s", 1}, 1, 0});
  writer.submit(CheckpointRecord{UnitKind::fit, fit, kKey, {"c2", 0, 40, "s", 1}, 1, 0});
  writer.submit(AddEvaluations{UnitKind::fit, fit, {evaluation_row(Phase::train, 20, "accuracy", 0.5)}});
  writer.submit(AddEvent{std::nullopt, "note", "hello"});
  writer.submit(AttemptEnd{kKey, TrialStatus::done, TrialStatus::done, "", 3.5, 77});
  writer.flush();
  EXPECT_EQ(writer.committed(), 7u);
  EXPECT_EQ(writer.queued_bytes(), 0u);
  EXPECT_THAT(rows_of(db, "SELECT outcome, wall_s, peak_memory_bytes FROM attempt"), ElementsAre("done|3.5|77"));
  EXPECT_THAT(rows_of(db, "SELECT path FROM checkpoint"), ElementsAre("c2"));
  EXPECT_FALSE(std::filesystem::exists(checkpoint_folder(db) / "c1"));
  EXPECT_TRUE(std::filesystem::exists(checkpoint_folder(db) / "c2"));
  EXPECT_EQ(integer_of(db, "SELECT count(*) FROM train_step"), kBlock);
  EXPECT_THAT(rows_of(db, "SELECT kind, detail FROM event"), ElementsAre("note|hello"));
}

TEST(WriterTest, ALoneCommandIsDurableWithoutWaitingForMore) {
  TemporaryFolder folder;
  StoreWriter writer(Store::open(folder / "a.db"));
  const std::uint64_t ticket = writer.submit(AddEvent{std::nullopt, "note", "alone"});
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (writer.committed() < ticket && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(integer_of(folder / "a.db", "SELECT count(*) FROM event"), 1);
}

TEST(WriterTest, AnErrorReachesTheSubmitterAndNothingHalfIsKept) {
  TemporaryFolder folder;
  StoreWriter writer(Store::open(folder / "a.db"));
  writer.submit(AddEvent{std::nullopt, "note", "before"});
  writer.flush();
  writer.submit(AddTrainSteps{12345, block_of(0)});  // no such fit
  EXPECT_THAT(error_of([&] { writer.flush(); }), HasSubstr("FOREIGN KEY"));
  EXPECT_THAT(error_of([&] { writer.submit(AddEvent{std::nullopt, "note", "after"}); }), HasSubstr("FOREIGN KEY"));
  EXPECT_EQ(writer.committed(), 1u);
  EXPECT_EQ(integer_of(folder / "a.db", "SELECT count(*) FROM train_step"), 0);
}

TEST(WriterTest, DestructionCommitsWhatWasSubmitted) {
  TemporaryFolder folder;
  {
    StoreWriter writer(Store::open(folder / "a.db"));
    for (int i = 0; i < 1000; ++i) writer.submit(AddEvent{std::nullopt, "note", std::to_string(i)});
  }
  EXPECT_EQ(integer_of(folder / "a.db", "SELECT count(*) FROM event"), 1000);
}

// A child writes blocks and notes in shared memory how many were acknowledged, until it is killed.
[[noreturn]] void write_until_killed(const std::filesystem::path& db, RowId fit, std::int64_t first,
                                     std::atomic<std::int64_t>& acknowledged) {
  try {
    StoreWriter writer(Store::open(db));
    for (std::int64_t block = first;; ++block) {
      writer.submit(AddTrainSteps{fit, block_of(block)});
      if (block % 3 != 0) continue;
      writer.flush();
      acknowledged = block + 1;
    }
  } catch (...) {
  }
  _exit(1);
}

TEST(WriterTest, AKillAtAnyInstantLosesNothingAcknowledged) {
  TemporaryFolder folder;
  const std::filesystem::path db = folder / "a.db";
  const SmallExperiment small;
  const RowId fit = [&] { return Store::open(db).register_plan(small.experiment, small.plan).fits[0].id; }();
  void* shared = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(shared, MAP_FAILED);
  auto& acknowledged = *new (shared) std::atomic<std::int64_t>(0);
  std::mt19937 random(20261122);
  constexpr int kKills = 15;
  std::int64_t first = 0;
  for (int kill_number = 0; kill_number < kKills; ++kill_number) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) write_until_killed(db, fit, first, acknowledged);
    std::this_thread::sleep_for(std::chrono::milliseconds(20 + random() % 100));
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the writer ended by itself";
    Store::open(db);  // recovers
    ASSERT_THAT(rows_of(db, "PRAGMA integrity_check"), ElementsAre("ok"));
    const std::int64_t rows = integer_of(db, "SELECT count(*) FROM train_step");
    ASSERT_GE(rows, acknowledged * kBlock);
    ASSERT_EQ(rows % kBlock, 0) << "half a block was kept";
    ASSERT_EQ(integer_of(db, "SELECT max(step) FROM train_step"), rows) << "a gap";
    first = rows / kBlock;
  }
  EXPECT_GT(first, 0);
  munmap(shared, 4096);
}

TEST(WriterTest, AFullDiskIsAnErrorThatSaysSoAndTheStoreIsWellAfterwards) {
  TemporaryFolder folder;
  if (mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=3m") != 0)
    return test::missing("NAMESPACES", "mounting a tmpfs is not permitted here");
  const std::filesystem::path db = folder / "a.db";
  {
    const SmallExperiment small;
    Store store = Store::open(db);
    const RowId fit = store.register_plan(small.experiment, small.plan).fits[0].id;
    std::ofstream(folder / "ballast") << std::string(1 << 20, 'x');
    std::string message;
    try {
      StoreWriter writer(std::move(store));
      for (std::int64_t block = 0; block < 20'000; ++block) {
        writer.submit(AddTrainSteps{fit, block_of(block)});
        if (block % 50 == 0) writer.flush();
      }
      writer.flush();
    } catch (const Error& error) {
      message = error.what();
    }
    EXPECT_THAT(message, HasSubstr("free some space"));
    std::filesystem::remove(folder / "ballast");
    Store again = Store::open(db);
    again.begin();
    again.add_event(std::nullopt, "note", "there is room again");
    again.commit();
    EXPECT_THAT(rows_of(db, "PRAGMA integrity_check"), ElementsAre("ok"));
    EXPECT_EQ(integer_of(db, "SELECT count(*) % 20 FROM train_step"), 0);
  }
  umount(folder.path().c_str());
}

}  // namespace
}  // namespace tenfold

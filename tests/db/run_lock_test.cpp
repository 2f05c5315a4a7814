#include "db/run_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <optional>

#include "tests/db/store_fixture.h"

namespace tenfold {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Optional;

TEST(RunLockTest, NamesTheHolderAndFreesItself) {
  TemporaryFolder folder;
  const std::filesystem::path db = folder / "a.db";
  std::optional<RunLock> lock = RunLock::acquire(db, "digits");
  EXPECT_THAT(error_of([&] { RunLock::acquire(db); }),
              AllOf(HasSubstr("held by pid " + std::to_string(getpid())), HasSubstr("since 20"), HasSubstr("digits")));
  lock.reset();
  RunLock::acquire(db);
}

TEST(RunLockTest, AKilledHolderHoldsNothing) {
  TemporaryFolder folder;
  const std::filesystem::path db = folder / "a.db";
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const RunLock lock = RunLock::acquire(db, "doomed");
    if (write(ready[1], "x", 1) != 1) _exit(1);
    pause();
    _exit(0);
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  EXPECT_THAT(error_of([&] { RunLock::acquire(db); }), HasSubstr("held by pid " + std::to_string(child)));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  const RunLock lock = RunLock::acquire(db, "next");
  EXPECT_THAT(error_of([&] { RunLock::acquire(db); }), HasSubstr("held by pid " + std::to_string(getpid())));
  close(ready[0]);
  close(ready[1]);
}

TEST(RunLockTest, TellsTheHolderWithoutTakingTheLock) {
  TemporaryFolder folder;
  const std::filesystem::path db = folder / "a.db";
  EXPECT_EQ(run_lock_holder(db), std::nullopt);
  EXPECT_FALSE(std::filesystem::exists(folder / "a.db.lock"));  // looking leaves nothing behind
  std::optional<RunLock> lock = RunLock::acquire(db, "digits");
  for (int look = 0; look < 2; ++look)
    EXPECT_THAT(run_lock_holder(db), Optional(AllOf(HasSubstr("pid " + std::to_string(getpid()) + " on host "),
                                                    HasSubstr("since 20"), HasSubstr("digits"))));
  EXPECT_THAT(error_of([&] { RunLock::acquire(db); }), HasSubstr("held by"));  // still held after the looks
  lock.reset();
  EXPECT_EQ(run_lock_holder(db), std::nullopt);  // the file still names the old holder
  EXPECT_TRUE(std::filesystem::exists(folder / "a.db.lock"));
  lock = RunLock::acquire(db, "next");
  std::ofstream(folder / "a.db.lock") << "garbage";
  EXPECT_EQ(run_lock_holder(db), "another process");
}

TEST(RunLockTest, AKilledHolderIsNoHolder) {
  TemporaryFolder folder;
  const std::filesystem::path db = folder / "a.db";
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const RunLock lock = RunLock::acquire(db, "doomed");
    if (write(ready[1], "x", 1) != 1) _exit(1);
    pause();
    _exit(0);
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  EXPECT_THAT(run_lock_holder(db), Optional(HasSubstr("pid " + std::to_string(child))));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_EQ(run_lock_holder(db), std::nullopt);
  close(ready[0]);
  close(ready[1]);
}

TEST(RunLockTest, AnyContentOfTheFileIsOnlyAHint) {
  TemporaryFolder folder;
  std::ofstream(folder / "a.db.lock") << "{\"pid\": \"x\", broken";
  const RunLock lock = RunLock::acquire(folder / "a.db");
  std::ofstream(folder / "a.db.lock") << "garbage";
  EXPECT_THAT(error_of([&] { RunLock::acquire(folder / "a.db"); }), HasSubstr("another process"));
  std::ofstream(folder / "a.db.lock") << R"({"pid": 1, "host": "\u001b[2Jh", "experiment": "a\nb"})";
  EXPECT_THAT(error_of([&] { RunLock::acquire(folder / "a.db"); }),
              AllOf(HasSubstr("host \\x1B[2Jh"), HasSubstr("experiment a\\nb")));
  EXPECT_THAT(error_of([&] { RunLock::acquire(folder / "missing/a.db"); }), HasSubstr("folder exists"));
}

}  // namespace
}  // namespace tenfold

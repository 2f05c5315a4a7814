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

TEST(RunLockTest, AnyContentOfTheFileIsOnlyAHint) {
  TemporaryFolder folder;
  std::ofstream(folder / "a.db.lock") << "{\"pid\": \"x\", broken";
  const RunLock lock = RunLock::acquire(folder / "a.db");
  std::ofstream(folder / "a.db.lock") << "garbage";
  EXPECT_THAT(error_of([&] { RunLock::acquire(folder / "a.db"); }), HasSubstr("another process"));
  EXPECT_THAT(error_of([&] { RunLock::acquire(folder / "missing/a.db"); }), HasSubstr("folder exists"));
}

}  // namespace
}  // namespace tenfold

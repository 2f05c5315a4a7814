#include "db/lease.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <optional>
#include <thread>

#include "db/run_lock.h"
#include "tests/db/store_fixture.h"

namespace tenfold {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class LeaseTest : public ::testing::Test {
 protected:
  // Long: a holder that a busy machine keeps waiting must not lose it.
  LeaseTest() { setenv("TENFOLD_LEASE_S", "60", 1); }
  ~LeaseTest() override {
    unsetenv("TENFOLD_LEASE_S");
    unsetenv("TENFOLD_PUBLISH");
  }
  void leave(const std::string& text) const { std::ofstream(file) << text; }
  void leave_long_ago(const std::string& text) const {
    leave(text);
    std::filesystem::last_write_time(file, std::filesystem::file_time_type::clock::now() - std::chrono::hours(1));
  }
  std::string content() const {
    std::string line;
    std::ifstream in(file);
    std::getline(in, line);
    return line;
  }

  TemporaryFolder folder;
  std::filesystem::path db = folder / "a.db", file = folder / "a.db.lease";
  std::string elsewhere = R"({"host": "node-7", "boot": "x", "pid": 12, "started_at": "2026", "experiment": "digits"})";
  std::string here = R"({"host": "me", "pid": 1, "started_at": "2026"})";
};

TEST_F(LeaseTest, IsGivenBackAndCanBeTakenAgain) {
  { const auto lease = Lease::take(db, here, false, nullptr); }
  EXPECT_FALSE(std::filesystem::exists(file));
  const auto again = Lease::take(db, here, false, nullptr);
  again->confirm();
  EXPECT_EQ(again->taken_from(), "");
  EXPECT_THAT(lease_holder(db, false).value(), HasSubstr("\"me\""));
}

TEST_F(LeaseTest, OfALiveHolderIsRefusedByName) {
  const auto lease = Lease::take(db, elsewhere, false, nullptr);
  EXPECT_THAT(error_of([&] { Lease::take(db, here, true, nullptr); }),
              AllOf(HasSubstr("held by pid 12 on host node-7 since 2026"), HasSubstr("digits")));
  lease->confirm();
}

TEST_F(LeaseTest, OfADeadHolderIsWaitedForAndTakenOver) {
  setenv("TENFOLD_LEASE_S", "2", 1);
  leave(elsewhere);
  std::string told;
  const auto lease = Lease::take(db, here, true, [&](const std::string& line) { told += line; });
  EXPECT_THAT(told, AllOf(HasSubstr("last held by pid 12 on host node-7"), HasSubstr("waiting up to")));
  EXPECT_THAT(content(), HasSubstr("\"me\""));
  EXPECT_EQ(lease->taken_from(),
            "pid 12 on host node-7 since 2026 (experiment digits), which had let its lease run out");
}

TEST_F(LeaseTest, ThatHasRunOutIsTakenAtOnce) {
  leave_long_ago(elsewhere);
  EXPECT_EQ(lease_holder(db, false), std::nullopt);
  bool told = false;
  const auto lease = Lease::take(db, here, false, [&](const std::string&) { told = true; });
  EXPECT_FALSE(told);
  EXPECT_THAT(content(), HasSubstr("\"me\""));
}

TEST_F(LeaseTest, OfADeadProcessOfThisKernelIsTakenAtOnce) {
  setenv("TENFOLD_LEASE_S", "1000", 1);
  char name[256] = "";
  gethostname(name, sizeof name);
  std::string text;
  {
    const auto mine = Lease::take(db, R"({"pid": 5, "host": ")" + std::string(name) + "\"}", false, nullptr);
    std::ifstream in(file);
    std::getline(in, text);
  }
  leave(text);
  EXPECT_NE(lease_holder(db, false), std::nullopt);
  EXPECT_EQ(lease_holder(db, true), std::nullopt);
  bool told = false;
  const auto lease = Lease::take(db, here, true, [&](const std::string&) { told = true; });
  EXPECT_FALSE(told);
}

TEST_F(LeaseTest, WhoeverLostItLearnsOfIt) {
  const auto lease = Lease::take(db, here, false, nullptr);
  std::filesystem::remove(file);
  leave(elsewhere);
  EXPECT_THAT(error_of([&] { lease->confirm(); }),
              AllOf(HasSubstr("taken over by pid 12 on host node-7"), HasSubstr("a.db")));
}

// The end of a lease that another run has must not take it away from that run.
TEST_F(LeaseTest, IsNotGivenBackForSomebodyElse) {
  {
    const auto lease = Lease::take(db, here, false, nullptr);
    std::filesystem::remove(file);
    leave(elsewhere);
  }
  EXPECT_TRUE(std::filesystem::exists(file));
}

TEST_F(LeaseTest, AnyContentIsOnlyAHint) {
  leave_long_ago("{\"pid\": [");
  const auto lease = Lease::take(db, here, true, nullptr);
  lease->confirm();
  EXPECT_EQ(describe_holder("\xff{"), "another process");
}

TEST_F(LeaseTest, OneOfManyTakesOver) {
  leave_long_ago(elsewhere);
  std::atomic<int> arrived = 0, taken = 0, refused = 0;
  std::vector<std::thread> hosts;
  for (int i = 0; i < 6; ++i)
    hosts.emplace_back([&, i] {
      try {
        const auto lease = Lease::take(db, R"({"host": "h", "pid": )" + std::to_string(i) + "}", false, nullptr);
        ++arrived;
        for (int looks = 0; looks < 400 && arrived + refused < 6; ++looks)
          std::this_thread::sleep_for(std::chrono::milliseconds(20));
        lease->confirm();  // two may come here, and one of them learns now that it was too late
        ++taken;
      } catch (const Error&) {
        ++refused;
      }
    });
  for (std::thread& host : hosts) host.join();
  EXPECT_EQ(taken, 1);
  EXPECT_EQ(refused, 5);
}

// Where stores are published, the run lock asks both the kernel and the lease.
TEST_F(LeaseTest, BelongsToTheRunLockOfAPublishedStore) {
  setenv("TENFOLD_PUBLISH", "always", 1);
  std::optional<RunLock> lock = RunLock::acquire(db, "digits");
  EXPECT_TRUE(std::filesystem::exists(file));
  EXPECT_THAT(error_of([&] { RunLock::acquire(db); }), HasSubstr("held by pid " + std::to_string(getpid())));
  lock->confirm();
  lock.reset();
  EXPECT_FALSE(std::filesystem::exists(file));
  EXPECT_EQ(run_lock_holder(db), std::nullopt);
  {
    const auto other = Lease::take(db, elsewhere, false, nullptr);  // no lock of this kernel is seen there
    EXPECT_THAT(error_of([&] { RunLock::acquire(db); }), HasSubstr("held by pid 12 on host node-7"));
    EXPECT_THAT(run_lock_holder(db).value(), HasSubstr("node-7"));
    other->confirm();
  }
  setenv("TENFOLD_PUBLISH", "never", 1);
  const RunLock local = RunLock::acquire(db);
  EXPECT_FALSE(std::filesystem::exists(file));
}

}  // namespace
}  // namespace tenfold

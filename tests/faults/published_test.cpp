// Stores on network file systems, forced here by TENFOLD_PUBLISH=always: the live database on the node, whole copies
// under the user's name, and a lease that other hosts see.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <sstream>
#include <thread>

#include "tests/faults/oracle.h"
#include "tests/faults/small_disk.h"
#include "tests/missing.h"

namespace tenfold {
namespace {

using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class Published : public testing::Test {
 protected:
  void SetUp() override {
    work_.set("TENFOLD_PUBLISH", "always");
    on_a_fresh_node();
  }
  std::vector<std::string> run(const std::string& db, std::vector<std::string> more = {}) {
    const char* source = std::getenv("TENFOLD_SOURCE_DIR");
    std::vector<std::string> words{"run",      std::string(source) + "/experiments/smoke.yaml",
                                   "--db",     db,
                                   "--slots",  "2",
                                   "--device", "cpu",
                                   "--set",    "checkpoint.every_steps=3",
                                   "--set",    "train.epochs=60",
                                   "--set",    "ttt.steps=150"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  // Of an undisturbed run on a local file system.
  const std::string& expected() {
    if (!expected_.empty()) return expected_;
    work_.set("TENFOLD_PUBLISH", "never");
    const auto begin = std::chrono::steady_clock::now();
    const Finished finished = work_.tenfold(run("calm.db"));
    EXPECT_EQ(finished.exit_code, 0) << finished.output;
    calm_ = std::chrono::steady_clock::now() - begin;
    work_.set("TENFOLD_PUBLISH", "always");
    return expected_ = results_of(work_, "calm.db");
  }
  void on_a_fresh_node() {
    node_ = work_.file("node-" + std::to_string(++nodes_));
    std::filesystem::create_directories(node_);
    work_.set("TMPDIR", node_.string());
  }
  void kill_everything() {
    for (const pid_t victim : work_.processes()) ::kill(victim, SIGKILL);
  }
  // What others read at this instant: sound, and every checkpoint that it names is there.
  void expect_published_is_whole(const std::string& db) {
    if (!std::filesystem::exists(work_.file(db))) return;
    expect_sound(work_, db);
    std::istringstream paths(work_.query(db, "SELECT DISTINCT path FROM checkpoint"));
    for (std::string path; std::getline(paths, path);)
      EXPECT_TRUE(std::filesystem::exists(work_.file(db + ".checkpoints") / path)) << path;
  }
  // In the store, once: whose it was.
  void expect_taken_over_from(pid_t holder, const std::string& who, const std::string& why) {
    const std::string told = work_.query("a.db", "SELECT detail FROM event WHERE kind = 'lease_taken'");
    EXPECT_THAT(told, AllOf(HasSubstr("the store was taken over from pid " + std::to_string(holder) + " on host "),
                            HasSubstr(who), HasSubstr(why)));
    EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM event WHERE kind = 'lease_taken'"), "1\n");
  }
  void as_host(const std::string& name) {
    work_.start_through({"unshare", "--uts", "sh", "-c", "hostname " + name + " && exec \"$@\"", "sh"});
  }
  static bool may_name_hosts() {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(::unshare(CLONE_NEWUTS) == 0 && ::sethostname("x", 1) == 0 ? 0 : 1);
    int status = 1;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  bool wait_until_published(const std::string& db, const std::string& sql) {
    return Workspace::wait_until([&] { return work_.holds(db, sql); });
  }

  Workspace work_;
  std::filesystem::path node_;
  int nodes_ = 0;
  inline static std::chrono::duration<double> calm_;
  inline static std::string expected_;  // of an undisturbed run, made once for all tests
};

TEST_F(Published, AWholeRunLeavesOneFileAndNothingOnTheNode) {
  const Finished finished = work_.tenfold(run("a.db"));
  ASSERT_EQ(finished.exit_code, 0) << finished.output;
  EXPECT_THAT(finished.output, HasSubstr("results in a.db, copied there every few seconds"));
  expect_as_undisturbed(work_, "a.db", expected());
  expect_none_left(work_);
  EXPECT_EQ(work_.query("a.db", "SELECT kind FROM event"), "");
  EXPECT_TRUE(std::filesystem::is_empty(node_));
  for (const char* leftover : {"a.db-wal", "a.db-shm", "a.db-journal", "a.db.lease"})
    EXPECT_FALSE(std::filesystem::exists(work_.file(leftover))) << leftover;
  EXPECT_THAT(work_.tenfold(run("a.db")).output, HasSubstr("nothing to do"));
  EXPECT_EQ(work_.tenfold({"report", "smoke", "--kind", "ttt-loss", "--db", "a.db"}).exit_code, 0);
}

TEST_F(Published, ReadersFollowARunFromAnyHost) {
  const pid_t pid = work_.start(run("a.db", {"--set", "train.epochs=2000"}));
  EXPECT_TRUE(wait_until_published("a.db", "SELECT count(*) > 0 FROM train_step"));
  on_a_fresh_node();
  EXPECT_THAT(work_.tenfold({"status", "--db", "a.db"}).output, HasSubstr("run by pid"));
  ::kill(pid, SIGTERM);
  EXPECT_EQ(work_.wait(pid).exit_code, 75);
  EXPECT_THAT(work_.tenfold({"status", "--db", "a.db"}).output, Not(HasSubstr("run by pid")));
  expect_published_is_whole("a.db");
}

// All processes at random instants, and each time on with a node that has never seen the run. TENFOLD_FAULT_KILLS asks
// for more of them.
TEST_F(Published, KillsAtRandomInstantsAndAnotherNodeChangeNoBit) {
  const char* asked = std::getenv("TENFOLD_FAULT_KILLS");
  const int wanted = asked ? std::atoi(asked) : 6;
  expected();
  std::mt19937 random(11);
  std::uniform_real_distribution<double> instant(0.2, std::max(1.0, calm_.count()));
  int lives = 1;
  const auto name = [&] { return "killed-" + std::to_string(lives) + ".db"; };
  const auto check = [&] { expect_as_undisturbed(work_, name(), expected()); };
  for (int kills = 0; kills < wanted;) {
    on_a_fresh_node();
    const pid_t pid = work_.start(run(name()));
    std::this_thread::sleep_for(std::chrono::duration<double>(instant(random)));
    kill_everything();
    const Finished finished = work_.wait(pid);
    expect_none_left(work_);
    expect_published_is_whole(name());
    if (finished.exit_code != 0) {
      ++kills;
      continue;
    }
    check();
    ++lives;
  }
  on_a_fresh_node();
  const Finished last = work_.tenfold(run(name()));
  ASSERT_EQ(last.exit_code, 0) << last.output;
  check();
}

TEST_F(Published, AnotherNodeGoesOnFromThePublishedCheckpoints) {
  expected();
  work_.set("TENFOLD_FAULT", "stop@step:100,stage=adapt,once=" + work_.file("struck").string());
  const pid_t pid = work_.start(run("a.db"));
  ASSERT_TRUE(
      wait_until_published("a.db", "SELECT count(*) > 0 FROM checkpoint WHERE trial IS NOT NULL AND step > 50"));
  kill_everything();
  work_.wait(pid);
  work_.unset("TENFOLD_FAULT");
  on_a_fresh_node();
  const Finished last = work_.tenfold(run("a.db"));
  ASSERT_EQ(last.exit_code, 0) << last.output;
  expect_as_undisturbed(work_, "a.db", expected());
  EXPECT_NE(work_.query("a.db", "SELECT count(*) FROM attempt WHERE trial IS NOT NULL AND resumed_from_step > 50"),
            "0\n");
}

// A run on a local file system was killed, and the next one publishes; and the other way round.
TEST_F(Published, ARunGoesOnWhereItWasWrittenInPlaceBefore) {
  for (const char* mode : {"never", "always", "never"}) {
    work_.set("TENFOLD_PUBLISH", mode);
    const bool is_first = !std::filesystem::exists(work_.file("a.db"));
    const int before = is_first ? 0 : std::stoi(work_.query("a.db", "SELECT count(*) FROM attempt"));
    const pid_t pid = work_.start(run("a.db", {"--set", "train.epochs=400"}));
    EXPECT_TRUE(wait_until_published("a.db", "SELECT count(*) > " + std::to_string(before) +
                                                 " AND (SELECT max(step) FROM train_step) > 20 FROM attempt"));
    kill_everything();
    EXPECT_NE(work_.wait(pid).exit_code, 0);
    expect_none_left(work_);
  }
  work_.set("TENFOLD_PUBLISH", "always");
  ASSERT_EQ(work_.tenfold(run("a.db", {"--set", "train.epochs=400"})).exit_code, 0);
  ASSERT_EQ(work_.tenfold(run("calm.db", {"--set", "train.epochs=400"})).exit_code, 0);
  expect_as_undisturbed(work_, "a.db", results_of(work_, "calm.db"));
}

TEST_F(Published, ACopyThatFindsNoSpaceIsToldAndTheLiveStoreKept) {
  const SmallDisk disk(work_.file("disk"), 8 << 20);
  if (!disk.mounted()) return test::missing("NAMESPACES", "mounting a tmpfs is not permitted here");
  const std::filesystem::path struck = work_.file("struck");
  work_.set("TENFOLD_FAULT", "stop@step:100,stage=adapt,once=" + struck.string());
  const pid_t pid = work_.start(run("disk/a.db", {"--set", "resources.max_array=1"}));
  ASSERT_TRUE(work_.wait_until_stopped(struck));
  disk.fill();
  for (const pid_t trainer : work_.processes("tenfold-trainer")) ::kill(trainer, SIGCONT);
  const Finished finished = work_.wait(pid);
  EXPECT_EQ(finished.exit_code, 6) << finished.output;
  EXPECT_THAT(finished.output, AllOf(HasSubstr("disk/a.db"), HasSubstr("space"), HasSubstr("tenfold-unpublished-")));
  expect_none_left(work_);
  expect_sound(work_, "disk/a.db");
  for (const auto& kept : std::filesystem::directory_iterator(node_)) {
    work_.set("TENFOLD_PUBLISH", "never");
    expect_sound(work_, (kept.path() / "a.db").string());
    work_.set("TENFOLD_PUBLISH", "always");
  }
  EXPECT_FALSE(std::filesystem::is_empty(node_));
  disk.free();
  on_a_fresh_node();
  const Finished again = work_.tenfold(run("disk/a.db"));
  ASSERT_EQ(again.exit_code, 0) << again.output;
  expect_as_undisturbed(work_, "disk/a.db", expected());
}

TEST_F(Published, ASecondHostIsToldWhoHoldsTheStore) {
  if (!may_name_hosts()) return test::missing("NAMESPACES", "hosts cannot be named here");
  as_host("node-a");
  const pid_t first = work_.start(run("a.db", {"--set", "train.epochs=4000"}));
  EXPECT_TRUE(wait_until_published("a.db", "SELECT count(*) > 0 FROM train_step"));
  // The kernel's lock is not seen by another kernel: here it is taken out of sight.
  std::filesystem::remove(work_.file("a.db.lock"));
  const std::string output = work_.file("output").string(), kept = work_.file("first").string();
  std::filesystem::rename(output, kept);
  as_host("node-b");
  on_a_fresh_node();
  const Finished second = work_.tenfold(run("a.db"));
  EXPECT_EQ(second.exit_code, 6) << second.output;
  EXPECT_THAT(second.output, AllOf(HasSubstr("a.db is held by pid"), HasSubstr("on host node-a since 20"),
                                   HasSubstr("experiment smoke")));
  ::kill(first, SIGTERM);
  EXPECT_EQ(work_.wait(first).exit_code, 75);  // unharmed
}

TEST_F(Published, TheLeaseOfADeadHostIsTakenOver) {
  if (!may_name_hosts()) return test::missing("NAMESPACES", "hosts cannot be named here");
  work_.set("TENFOLD_LEASE_S", "2");
  as_host("node-a");
  const pid_t first = work_.start(run("a.db"));
  EXPECT_TRUE(wait_until_published("a.db", "SELECT count(*) > 0 FROM train_step"));
  const pid_t holder = rank_process(work_, 0);
  kill_everything();
  work_.wait(first);
  EXPECT_TRUE(std::filesystem::exists(work_.file("a.db.lease")));
  as_host("node-b");
  on_a_fresh_node();
  const Finished second = work_.tenfold(run("a.db"));
  EXPECT_EQ(second.exit_code, 0) << second.output;
  expect_as_undisturbed(work_, "a.db", expected());
  expect_taken_over_from(holder, "on host node-a", "which had let its lease run out");
}

TEST_F(Published, AKilledRunOfTheSameHostHoldsNothing) {
  work_.set("TENFOLD_LEASE_S", "100000");
  const pid_t first = work_.start(run("a.db"));
  EXPECT_TRUE(wait_until_published("a.db", "SELECT count(*) > 0 FROM train_step"));
  const pid_t holder = rank_process(work_, 0);
  kill_everything();
  work_.wait(first);
  EXPECT_TRUE(std::filesystem::exists(work_.file("a.db.lease")));
  const Finished second = work_.tenfold(run("a.db"));
  EXPECT_EQ(second.exit_code, 0) << second.output;
  expect_as_undisturbed(work_, "a.db", expected());
  expect_taken_over_from(holder, "experiment smoke", "which is no more");
}

// Woken after another run has taken over: it may write nothing any more.
TEST_F(Published, ARunThatSleptThroughItsLeasePublishesNothing) {
  if (!may_name_hosts()) return test::missing("NAMESPACES", "hosts cannot be named here");
  work_.set("TENFOLD_LEASE_S", "1");
  const std::filesystem::path struck = work_.file("struck");
  work_.set("TENFOLD_FAULT", "stop@step:100,stage=fit,once=" + struck.string());
  for (const char* limit : {"TENFOLD_PEER_SILENCE_S", "TENFOLD_TRAINER_SILENCE_S", "TENFOLD_ALIVE_TIMEOUT_S"})
    work_.set(limit, "600");  // nobody but the lease shall notice
  as_host("node-a");
  const pid_t first = work_.start(run("a.db"));
  // Else the trainer that stops for good is one of the second run.
  ASSERT_TRUE(work_.wait_until_stopped(struck));
  EXPECT_TRUE(wait_until_published("a.db", "SELECT coalesce(max(step), 0) > 90 FROM train_step"));
  const pid_t coordinator = rank_process(work_, 0);
  ASSERT_GT(coordinator, 0);
  ::kill(coordinator, SIGSTOP);
  std::filesystem::remove(work_.file("a.db.lock"));
  std::filesystem::rename(work_.file("output"), work_.file("first"));
  as_host("node-b");
  on_a_fresh_node();
  const Finished second = work_.tenfold(run("a.db"));
  EXPECT_EQ(second.exit_code, 0) << second.output;
  expect_store_as_undisturbed(work_, "a.db", expected());
  for (const pid_t trainer : work_.processes("tenfold-trainer")) ::kill(trainer, SIGCONT);
  ::kill(coordinator, SIGCONT);
  EXPECT_EQ(work_.wait(first).exit_code, 6);
  std::ifstream in(work_.file("first"));
  EXPECT_THAT(std::string(std::istreambuf_iterator<char>(in), {}),
              HasSubstr("was taken over, because this run could not renew its lease in time"));
  expect_as_undisturbed(work_, "a.db", expected());
  expect_taken_over_from(coordinator, "on host node-a", "which had let its lease run out");
}

}  // namespace
}  // namespace tenfold

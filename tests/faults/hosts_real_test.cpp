// The real trainer over two hosts, and what becomes of its numbers.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cstdlib>

#include "tests/faults/oracle.h"
#include "tests/faults/second_host.h"
#include "tests/missing.h"

namespace tenfold {
namespace {

using std::chrono::seconds;

std::vector<std::string> smoke(const std::string& db, const std::vector<std::string>& where) {
  const char* source = std::getenv("TENFOLD_SOURCE_DIR");
  std::vector<std::string> words{"run", std::string(source) + "/experiments/smoke.yaml", "--db", db, "--device", "cpu"};
  for (const char* set : {"checkpoint.every_steps=3", "train.epochs=100", "ttt.steps=100"})
    words.insert(words.end(), {"--set", set});
  words.insert(words.end(), where.begin(), where.end());
  return words;
}

TEST(TwoRealHosts, GiveTheBitsOfOneAlsoWhenOneIsLost) {
  Workspace work;
  const SecondHost far(work);
  if (!far.available()) return test::missing("NAMESPACES", far.why());
  const auto holds = [&](const std::string& db, const std::string& sql) {
    return work.wait_until([&] { return work.holds(db, sql); }, seconds(60));
  };
  ASSERT_EQ(work.tenfold(smoke("one.db", {"--slots", "2"})).exit_code, 0);
  const std::string expected = results_of(work, "one.db");

  for (const char* limit : {"TENFOLD_TRAINER_SILENCE_S", "TENFOLD_ALIVE_TIMEOUT_S"})
    work.set(limit, "600");  // nobody minds that one sleeps
  // While the first trainer that comes there sleeps in its fit, the other one gets the second fit, however late it is.
  const auto start_on_both = [&](const std::string& db) {
    const std::string struck = work.file(db + ".struck").string();
    work.set("TENFOLD_FAULT", "stop@step:100,stage=fit,once=" + struck);
    const pid_t pid = work.start(smoke(db, {"--hosts", "localhost:1,far:1"}));
    EXPECT_TRUE(work.wait_until_stopped(struck));
    EXPECT_TRUE(holds(db, "SELECT count(DISTINCT host) = 2 FROM attempt"));
    return pid;
  };
  const auto wake_and_wait = [&](pid_t pid) {
    for (const pid_t trainer : work.processes("tenfold-trainer")) ::kill(trainer, SIGCONT);
    return work.wait(pid);
  };
  const Finished both = wake_and_wait(start_on_both("two.db"));
  EXPECT_EQ(both.exit_code, 0) << both.output;
  expect_none_left(work);
  expect_as_undisturbed(work, "two.db", expected);

  work.set("TENFOLD_PEER_SILENCE_S", "5");
  const pid_t pid = start_on_both("lost.db");
  far.pull_the_cable();
  EXPECT_TRUE(holds("lost.db", "SELECT count(*) = 1 FROM event WHERE kind = 'worker_lost'"));
  const Finished lost = wake_and_wait(pid);
  EXPECT_EQ(lost.exit_code, 0) << lost.output;
  EXPECT_EQ(work.query("lost.db", "SELECT count(*) FROM event WHERE kind = 'worker_lost'"), "1\n");
  expect_none_left(work, seconds(10));  // it was pulled late perhaps: the far host has its own 5 s of silence
  expect_as_undisturbed(work, "lost.db", expected);
}

}  // namespace
}  // namespace tenfold

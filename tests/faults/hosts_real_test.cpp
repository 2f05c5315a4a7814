// The real trainer over two hosts, and what becomes of its numbers.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cstdlib>

#include "tests/faults/oracle.h"
#include "tests/faults/second_host.h"

namespace tenfold {
namespace {

using std::chrono::seconds;

std::vector<std::string> smoke(const std::string& db, const std::vector<std::string>& where) {
  const char* source = std::getenv("TENFOLD_SOURCE_DIR");
  std::vector<std::string> words{"run", std::string(source) + "/experiments/smoke.yaml", "--db", db, "--device", "cpu"};
  for (const char* set : {"checkpoint.every_steps=3", "train.epochs=200", "ttt.steps=150"})
    words.insert(words.end(), {"--set", set});
  words.insert(words.end(), where.begin(), where.end());
  return words;
}

TEST(TwoRealHosts, GiveTheBitsOfOneAlsoWhenOneIsLost) {
  Workspace work;
  const SecondHost far(work);
  if (!far.available()) GTEST_SKIP() << far.why();
  ASSERT_EQ(work.tenfold(smoke("one.db", {"--slots", "2"})).exit_code, 0);
  const std::string expected = results_of(work, "one.db");

  const Finished both = work.tenfold(smoke("two.db", {"--hosts", "localhost:1,far:1"}));
  EXPECT_EQ(both.exit_code, 0) << both.output;
  EXPECT_EQ(work.query("two.db", "SELECT count(DISTINCT host) FROM attempt"), "2\n");
  expect_none_left(work);
  expect_as_undisturbed(work, "two.db", expected);

  work.set("TENFOLD_PEER_SILENCE_S", "5");
  const pid_t pid = work.start(smoke("lost.db", {"--hosts", "localhost:1,far:1"}));
  ASSERT_TRUE(work.wait_until_some("tenfold-trainer", 2, seconds(30)));
  ASSERT_TRUE(work.wait_until(
      [&] { return work.query("lost.db", "SELECT count(DISTINCT host) FROM attempt") == "2\n"; }, seconds(60)));
  far.pull_the_cable();
  const Finished lost = work.wait(pid, seconds(90));
  EXPECT_EQ(lost.exit_code, 0) << lost.output;
  EXPECT_EQ(work.query("lost.db", "SELECT count(*) FROM event WHERE kind = 'worker_lost'"), "1\n");
  expect_none_left(work, seconds(10));  // it was pulled late perhaps: the far host has its own 5 s of silence
  expect_as_undisturbed(work, "lost.db", expected);
}

}  // namespace
}  // namespace tenfold

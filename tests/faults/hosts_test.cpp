// Runs over two hosts, and what is lost with one of them. The second host is a network namespace (second_host.h); the
// trainer is the fake one, whose rows show every wrong resume; hosts_real_test.cpp has the real one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/faults/fault_run.h"
#include "tests/faults/second_host.h"
#include "tests/missing.h"

namespace tenfold {
namespace {

using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;

class TwoHosts : public FaultRun {
 protected:
  void SetUp() override {
    if (!far_.available()) return test::missing("NAMESPACES", far_.why());
    use_fake();
    work_.set("TENFOLD_PEER_SILENCE_S", "4");
    work_.set("TENFOLD_FAKE_STEP_MS", "60");
  }

  pid_t start() { return work_.start(run("a.db", kBoth)); }
  // Both hosts compute, and something is committed of what the far one computes.
  bool far_computes() {
    return work_.wait_until([&] { return work_.processes("tenfold-fake-trainer").size() == 4; }) &&
           work_.wait_until([&] {
             return work_.query("a.db",
                                "SELECT count(*) > 0 FROM attempt a JOIN checkpoint c ON c.fit = a.fit WHERE a.host = "
                                "'far'") == "1\n";
           });
  }
  void expect_far_written_off(const std::string& output) {
    EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM event WHERE kind = 'worker_lost'"), "2\n") << output;
    EXPECT_EQ(work_.query("a.db", "SELECT DISTINCT host FROM attempt WHERE outcome = 'failed'"), "far\n");
    EXPECT_EQ(
        work_.query("a.db", "SELECT count(*) FROM attempt WHERE outcome = 'failed' AND reason NOT LIKE '%silent%'"),
        "0\n");
  }

  static inline const std::vector<std::string> kBoth = {"--hosts", "localhost:2,far:2"};
  SecondHost far_{work_};
};

TEST_F(TwoHosts, TheCableIsPulledAndPluggedInAgain) {
  const pid_t pid = start();
  ASSERT_TRUE(far_computes());
  far_.pull_the_cable();
  ASSERT_TRUE(work_.wait_until(
      [&] { return work_.query("a.db", "SELECT count(*) FROM event WHERE kind = 'worker_lost'") == "2\n"; }));
  // What was on its way comes through now, from workers that nobody waits for any more.
  far_.plug_it_in();
  const Finished finished = work_.wait(pid, seconds(60));
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  expect_none_left(work_);
  expect_far_written_off(finished.output);
  expect_as_undisturbed(work_, "a.db", expected());
}

TEST_F(TwoHosts, TheCableStaysPulledAndTheFarHostCleansUpByItself) {
  const pid_t pid = start();
  ASSERT_TRUE(far_computes());
  far_.pull_the_cable();
  // Trainers, workers, Open MPI's daemon and ours, while the run goes on without them or is over.
  EXPECT_TRUE(work_.wait_until([&] { return far_.processes().empty(); }));
  const Finished finished = work_.wait(pid, seconds(60));
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  expect_none_left(work_);
  expect_far_written_off(finished.output);
  expect_as_undisturbed(work_, "a.db", expected());
}

TEST_F(TwoHosts, EverythingOnOneIsKilled) {
  const pid_t pid = start();
  ASSERT_TRUE(far_computes());
  for (const pid_t victim : far_.processes()) ::kill(victim, SIGKILL);
  const Finished finished = work_.wait(pid, seconds(60));
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  expect_none_left(work_);
  expect_far_written_off(finished.output);
  expect_as_undisturbed(work_, "a.db", expected());
}

// Nobody is left to tell the far host anything: Open MPI's daemon sees mpirun's end and ours sees to the rest.
TEST_F(TwoHosts, TheFrontIsKilledAndBothHostsAreEmptyAtOnce) {
  const pid_t pid = start();
  ASSERT_TRUE(far_computes());
  ::kill(pid, SIGKILL);
  work_.wait(pid);
  expect_none_left(work_);
  // What has no mark of ours any more may be about to end, too.
  EXPECT_TRUE(Workspace::wait_until([&] { return far_.processes().empty(); }, seconds(5)));
  finish("a.db", kBoth);
}

TEST_F(TwoHosts, ADrainReachesBothAndTheNextRunMayDoWithoutOne) {
  work_.set("TENFOLD_FAKE_STEP_MS", "150");
  const pid_t pid = start();
  const char* const all_compute =
      "SELECT count(DISTINCT a.rank) = 4 FROM attempt a JOIN checkpoint c ON c.fit = a.fit WHERE a.outcome = 'running'";
  ASSERT_TRUE(Workspace::wait_until([&] { return work_.holds("a.db", all_compute); }, seconds(60)));
  ::kill(pid, SIGTERM);
  const Finished drained = work_.wait(pid, seconds(20));
  EXPECT_EQ(drained.exit_code, 75) << drained.output;
  expect_none_left(work_);
  expect_sound(work_, "a.db");
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM attempt WHERE host = 'far' AND outcome = 'stopped'"), "2\n");
  work_.unset("TENFOLD_FAKE_STEP_MS");
  finish("a.db", {"--hosts", "localhost:1"});
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) > 0 FROM attempt WHERE resumed_from_step > 0"), "1\n");
}

TEST_F(TwoHosts, TheFrontsHostNeedNotCompute) {
  work_.write("hosts", "# none here\nfar slots=2\n");
  work_.unset("TENFOLD_FAKE_STEP_MS");
  finish("a.db", {"--hostfile", "hosts"});
  EXPECT_EQ(work_.query("a.db", "SELECT DISTINCT host FROM attempt"), "far\n");
}

// What GPUs it has cannot be seen from here, but its workers say theirs.
TEST_F(TwoHosts, TrialsOverSeveralGpusAreRefusedWhereSlotsOfAFarHostShareOne) {
  work_.unset("TENFOLD_FAKE_STEP_MS");
  work_.write("hosts", "far slots=2\n");
  const auto on_gpus = [&](const std::string& db, const std::string& ranks) {
    return complete(db, {"--hostfile", "hosts", "--device", "cuda", "--set", "resources.ranks_per_trial=" + ranks});
  };
  const Finished refused = on_gpus("a.db", "2");
  EXPECT_EQ(refused.exit_code, 2) << refused.output;
  EXPECT_THAT(refused.output, AllOf(HasSubstr("needs each for itself, and far has two slots on its cuda:0"),
                                    HasSubstr("no host more slots than it has GPUs")));
  expect_none_left(work_);
  EXPECT_EQ(on_gpus("b.db", "1").exit_code, 0);
  EXPECT_EQ(work_.query("b.db", "SELECT DISTINCT host, device FROM attempt"), "far,cuda:0\n");
}

// MPI would wait for it for ever.
TEST_F(TwoHosts, AWorkerThatDiesBeforeMpiIsUpIsStartedAgain) {
  work_.unset("TENFOLD_FAKE_STEP_MS");
  expected();
  work_.set("TENFOLD_START_S", "12");
  work_.set("TENFOLD_FAULT", "kill@mpi:1,once=" + work_.file("struck").string());
  finish("a.db", kBoth);
  EXPECT_EQ(work_.query("a.db", "SELECT detail FROM event WHERE kind = 'run_restarted'"),
            "the processes on the hosts of the run did not find each other within 12 s\n");
}

TEST_F(TwoHosts, AHostThatCannotBeReachedIsNamed) {
  work_.write("agent", "#!/bin/sh\necho ssh: Could not resolve hostname $1 >&2\nexit 255\n");
  const Finished finished = complete("a.db", kBoth);
  EXPECT_EQ(finished.exit_code, 5) << finished.output;
  EXPECT_THAT(finished.output, HasSubstr("Could not resolve hostname far"));
  expect_none_left(work_);
}

}  // namespace
}  // namespace tenfold

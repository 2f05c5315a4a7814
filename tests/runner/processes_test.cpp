#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "experiments/error.h"
#include "experiments/hash.h"
#include "runner/child.h"
#include "runner/coordinator_front.h"
#include "runner/coordinator_resume.h"
#include "runner/gpu_sharing.h"
#include "runner/process_table.h"
#include "runner/rank_settings.h"
#include "runner/rank_slots.h"
#include "runner/signals.h"
#include "runner/spawn.h"
#include "runner/unix_socket.h"

namespace tenfold {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;

// In a container nobody may reap orphans: zombies do not count.
bool is_running(pid_t process) {
  std::ifstream in("/proc/" + std::to_string(process) + "/stat");
  std::string pid, name, state;
  return in >> pid >> name >> state && state != "Z";
}

class Processes : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "tenfold-processes-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  SpawnRequest shell(const std::string& script) {
    return {"/bin/sh", {"-c", script}, environment_without_mpi({}), folder_ / "log", -1};
  }
  std::string log() const {
    std::ifstream in(folder_ / "log");
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::filesystem::path folder_;
};

TEST_F(Processes, AChildRunsInASessionOfItsOwnWithoutOurFilesAndSignals) {
  UniqueFd ours(::dup(0));
  sigset_t blocked, before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &blocked, &before);
  ChildProcess child =
      spawn(shell("test \"$(ps -o sid= -p $$ | tr -d ' ')\" = $$ && echo own-session; ls /proc/self/fd | wc "
                  "-l; grep SigBlk /proc/self/status"));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ASSERT_TRUE(child.wait_for(seconds(10)));
  EXPECT_THAT(log(), HasSubstr("SigBlk:\t0000000000000000"));
  EXPECT_THAT(log(), HasSubstr("\n4\n")) << "0, 1, 2 and the folder that ls reads; found: " << log();
}

// What ends between the look at its entry in /proc and the read of it is no error of ours.
TEST_F(Processes, AreCountedWhileOthersComeAndGo) {
  const pid_t churn = ::fork();
  ASSERT_GE(churn, 0);
  if (churn == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
      const pid_t child = ::fork();
      if (child == 0) ::_exit(0);
      if (child > 0) ::waitpid(child, nullptr, 0);
    }
  }
  ChildProcess child = spawn(shell("exec sleep 60"));
  const auto until = std::chrono::steady_clock::now() + seconds(2);
  int looks = 0;
  for (; looks < 20 || std::chrono::steady_clock::now() < until; ++looks) {
    EXPECT_GE(live_children(::getpid()), 2);
    EXPECT_EQ(processes_of_session(child.pid()), std::vector<pid_t>{child.pid()});
  }
  ::kill(churn, SIGKILL);
  ::waitpid(churn, nullptr, 0);
  child.signal(SIGKILL);
  EXPECT_TRUE(child.wait_for(seconds(10)));
}

TEST_F(Processes, HowAChildEndedIsSaidInWords) {
  ChildProcess killed = spawn(shell("kill -SEGV $$"));
  ASSERT_TRUE(killed.wait_for(seconds(10)));
  EXPECT_EQ(killed.how_it_ended(), "killed by SIGSEGV (segmentation fault)");
  ChildProcess failed = spawn(shell("exit 3"));
  ASSERT_TRUE(failed.wait_for(seconds(10)));
  EXPECT_EQ(failed.how_it_ended(), "exited with code 3");
}

TEST_F(Processes, TheDestructorTakesTheWholeSessionAlong) {
  pid_t leader = 0;
  {
    ChildProcess child = spawn(shell("sleep 1000 & echo $!; wait"));
    leader = child.pid();
    for (int i = 0; i < 200 && log().empty(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ASSERT_FALSE(log().empty());
  EXPECT_NE(::kill(leader, 0), 0);
  const pid_t grandchild = static_cast<pid_t>(std::stol(log()));
  for (int i = 0; i < 200 && is_running(grandchild); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_FALSE(is_running(grandchild));
}

// Found by killing mpirun at random instants: trainers that were still loading LibTorch lived on for seconds.
TEST_F(Processes, AChildThatHasDoneNothingYetEndsWithItsParent) {
  int pipe[2];
  ASSERT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
  const UniqueFd from_parent(pipe[0]);
  UniqueFd to_us(pipe[1]);
  const pid_t parent = ::fork();
  if (parent == 0) {
    const ChildProcess child = spawn(shell("exec sleep 1000"));
    const pid_t pid = child.pid();
    [[maybe_unused]] const ssize_t written = ::write(to_us.get(), &pid, sizeof pid);
    while (true) ::pause();
  }
  to_us.reset();
  pid_t child = 0;
  ASSERT_EQ(::read(from_parent.get(), &child, sizeof child), static_cast<ssize_t>(sizeof child));
  EXPECT_TRUE(is_running(child));
  ::kill(parent, SIGKILL);
  ::waitpid(parent, nullptr, 0);
  for (int i = 0; i < 200 && is_running(child); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_FALSE(is_running(child));
}

TEST_F(Processes, AProgramThatIsNotThereIsAnError) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "TSan makes a fork of vfork, and the error is told in memory that parent and child share";
#endif
  SpawnRequest request = shell("");
  request.program = folder_ / "missing";
  EXPECT_THROW(spawn(request), Error);
}

TEST_F(Processes, TheEnvironmentOfAChildHasNothingOfMpi) {
  ::setenv("OMPI_COMM_WORLD_RANK", "3", 1);
  ::setenv("PMIX_RANK", "3", 1);
  ::setenv("TENFOLD_TESTED", "old", 1);
  const auto variables = environment_without_mpi({"TENFOLD_TESTED=new"});
  ::unsetenv("OMPI_COMM_WORLD_RANK");
  ::unsetenv("PMIX_RANK");
  EXPECT_THAT(variables, Not(testing::Contains(testing::StartsWith("OMPI_"))));
  EXPECT_THAT(variables, Not(testing::Contains(testing::StartsWith("PMIX_"))));
  EXPECT_THAT(variables, testing::Contains("TENFOLD_TESTED=new"));
  EXPECT_THAT(variables, Not(testing::Contains("TENFOLD_TESTED=old")));
}

TEST_F(Processes, TheTailOfALogIsOneCleanLine) {
  std::ofstream(folder_ / "log") << "before\n"
                                 << "one\n\ntwo \x1b[31mred\nthree\n";
  EXPECT_EQ(log_tail(folder_ / "log", 7), "one | two [31mred | three");
  EXPECT_EQ(log_tail(folder_ / "log", 7, 8), "three");
  EXPECT_EQ(log_tail(folder_ / "log", 1000), "");
  EXPECT_EQ(log_tail(folder_ / "missing", 0), "");
}

TEST_F(Processes, LinesGoBothWaysOverASocketAndItsEndIsSeen) {
  const auto path = folder_ / "socket";
  UniqueFd listener = listen_unix(path);
  EXPECT_FALSE(accept_unix(listener));
  LineChannel a(connect_unix(path));
  auto accepted = accept_unix(listener);
  ASSERT_TRUE(accepted);
  {
    LineChannel b(std::move(*accepted));
    const std::string large(300'000, 'x');
    a.send("one");
    a.send(large);
    std::vector<std::string> got;
    for (int i = 0; i < 1000 && got.size() < 2; ++i) {
      b.receive();
      a.flush();
      while (auto line = b.next()) got.push_back(*line);
    }
    ASSERT_EQ(got.size(), 2u);
    EXPECT_EQ(got[0], "one");
    EXPECT_EQ(got[1], large);
    b.send("last words");
  }
  a.receive();
  EXPECT_EQ(a.next(), "last words");
  EXPECT_TRUE(a.closed());
  a.send("into the void");  // no SIGPIPE
}

// Something sent after the other side had closed must not cost what that one said before.
TEST_F(Processes, LastWordsAreHeardByWhoSpeaksBeforeListening) {
  const auto path = folder_ / "socket";
  UniqueFd listener = listen_unix(path);
  LineChannel a(connect_unix(path));
  {
    LineChannel b(std::move(*accept_unix(listener)));
    b.send("last words");
  }
  a.send("into the void");
  EXPECT_FALSE(a.closed());
  a.receive();
  EXPECT_EQ(a.next(), "last words");
  EXPECT_TRUE(a.closed());
}

TEST_F(Processes, OnlyCheckpointsThatAreWholeAreUsed) {
  const auto write = [&](const std::string& name, const std::string& content) {
    std::ofstream(folder_ / name) << content;
    return StoredCheckpoint{name, 0, 0, sha256(content).hex(), static_cast<std::int64_t>(content.size())};
  };
  StoredCheckpoint good = write("10", "good"), damaged = write("20", "bad"), missing = write("30", "gone");
  good.step = 10, damaged.step = 20, missing.step = 30;
  std::ofstream(folder_ / "20", std::ios::app) << "!";
  std::filesystem::remove(folder_ / "30");
  CheckpointCheck check(folder_, [](const std::string& file) { return sha256_file(file).hex(); });
  std::vector<StoredCheckpoint> checkpoints{missing, damaged, good};
  const auto problems = check.keep_usable(checkpoints);
  ASSERT_EQ(checkpoints.size(), 1u);
  EXPECT_EQ(checkpoints[0].step, 10);
  ASSERT_EQ(problems.size(), 2u);
  EXPECT_THAT(problems[0], HasSubstr("does not exist"));
  EXPECT_THAT(problems[1], HasSubstr("SHA-256"));
}

TEST(FrontLines, SurviveTheirJson) {
  RunOutcome outcome;
  outcome.trials = 60;
  outcome.trials_done = 57;
  outcome.trials_failed = 3;
  outcome.lost_workers = true;
  outcome.elapsed_s = 1.5;
  outcome.error = ErrorKind::storage;
  outcome.message = "full \xff disk";
  const FrontLine line = decode_front_line(encode(FrontLine{FrontLine::Kind::outcome, encode(outcome)}));
  EXPECT_EQ(line.kind, FrontLine::Kind::outcome);
  const RunOutcome got = decode_outcome_of_run(line.content);
  EXPECT_EQ(got.trials_done, 57);
  EXPECT_EQ(got.trials_failed, 3);
  EXPECT_TRUE(got.lost_workers);
  EXPECT_EQ(got.error, ErrorKind::storage);
  EXPECT_EQ(decode_front_line(encode(FrontLine{FrontLine::Kind::drain, signal_name(SIGUSR2)})).content, "SIGUSR2");
  EXPECT_THROW(decode_front_line("nonsense"), Error);
  EXPECT_THROW(decode_front_line(R"({"kind":"other","content":""})"), Error);
}

TEST(RankOptions, SurviveTheirJson) {
  RankOptions options;
  options.run.experiment_file = "x y.yaml";
  options.run.overrides = {"ttt.steps=3"};
  options.run.share_fits = false;
  options.slots = 7;
  options.front_socket = "/dev/shm/f";
  const RankOptions got = decode_rank_options(encode(options));
  EXPECT_EQ(got.run.experiment_file, options.run.experiment_file);
  EXPECT_EQ(got.run.overrides, options.run.overrides);
  EXPECT_FALSE(got.run.share_fits);
  EXPECT_EQ(got.slots, 7);
  EXPECT_EQ(got.front_socket, options.front_socket);
}

TEST(Slots, TheCommandLineGoesBeforeTheFileAndTheFileBeforeTheMachine) {
  ResourcesSpec resources;
  resources.device = "cpu";
  EXPECT_EQ(choose_slots(resources, 0, "").slots, usable_cores());
  resources.slots = 3;
  EXPECT_EQ(choose_slots(resources, 0, "").slots, 3);
  EXPECT_EQ(choose_slots(resources, 5, "").slots, 5);
  EXPECT_FALSE(choose_slots(resources, 5, "").gpu);
  ::setenv("CUDA_VISIBLE_DEVICES", "", 1);
  EXPECT_EQ(visible_gpus(), 0);
  EXPECT_THROW(choose_slots(resources, 0, "cuda"), Error);
  ::unsetenv("CUDA_VISIBLE_DEVICES");
}

TEST(Slots, EveryGpuHasAsManyAsTheFileWantsToShareIt) {
  ResourcesSpec resources;
  EXPECT_EQ(choose_slots(resources, 0, "", 4).slots, 4);
  EXPECT_FALSE(choose_slots(resources, 0, "", 4).share_gpus);
  resources.slots_per_gpu = 3;
  EXPECT_EQ(choose_slots(resources, 0, "", 4).slots, 12);
  EXPECT_TRUE(choose_slots(resources, 0, "", 4).share_gpus);
  EXPECT_EQ(choose_slots(resources, 5, "", 4).slots, 5);
  EXPECT_EQ(choose_slots(resources, 0, "cpu", 4).slots, usable_cores());
  EXPECT_FALSE(choose_slots(resources, 0, "cpu", 4).share_gpus);
}

TEST(Slots, ADaemonThatIsNotOursIsUsedAsItIs) {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / "tenfold-no-mps-here";
  ::setenv("CUDA_MPS_PIPE_DIRECTORY", "/run/their-mps", 1);
  const GpuSharing sharing = share_gpus(true, folder);
  ::unsetenv("CUDA_MPS_PIPE_DIRECTORY");
  EXPECT_TRUE(sharing.environment.empty());
  EXPECT_THAT(sharing.note, testing::HasSubstr("/run/their-mps"));
  EXPECT_FALSE(std::filesystem::exists(folder)) << "nothing is started";
}

// The name of the folder can be foretold. No worker may read from one that somebody else has put there.
TEST_F(Processes, AStrangersFolderForMpsIsNotUsedByAnyWorker) {
  const std::filesystem::path folder = folder_ / "mps", theirs = folder_ / "theirs";
  const auto make = [](const std::filesystem::path& path) {
    std::filesystem::create_directory(path);
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    std::ofstream(path / "state") << "on\n";
  };
  make(folder);
  EXPECT_FALSE(share_gpus(false, folder).environment.empty()) << "ours is";
  const auto expect_refused = [&] {
    for (const bool first : {true, false}) {
      const GpuSharing sharing = share_gpus(first, folder);
      EXPECT_TRUE(sharing.environment.empty());
      EXPECT_THAT(sharing.note, HasSubstr("is not a folder of this user's alone"));
    }
  };
  std::filesystem::permissions(folder, std::filesystem::perms::owner_all | std::filesystem::perms::others_write);
  expect_refused();
  std::filesystem::remove_all(folder);
  make(theirs);
  std::filesystem::create_directory_symlink(theirs, folder);
  expect_refused();
  std::filesystem::remove(folder);
  if (::geteuid() != 0) GTEST_SKIP() << "folders of other users need root";
  make(folder);
  ASSERT_EQ(::chown(folder.c_str(), 65534, 65534), 0);
  expect_refused();
  EXPECT_TRUE(std::filesystem::exists(folder / "state")) << "nothing of theirs is touched";
}

TEST(Limits, ComeFromTheEnvironmentAndAreChecked) {
  EXPECT_EQ(seconds_from_environment("TENFOLD_TEST_LIMIT_S", 20), 20);
  ::setenv("TENFOLD_TEST_LIMIT_S", "2.5", 1);
  EXPECT_EQ(seconds_from_environment("TENFOLD_TEST_LIMIT_S", 20), 2.5);
  ::setenv("TENFOLD_TEST_LIMIT_S", "soon", 1);
  EXPECT_THROW(seconds_from_environment("TENFOLD_TEST_LIMIT_S", 20), Error);
  ::unsetenv("TENFOLD_TEST_LIMIT_S");
}

}  // namespace
}  // namespace tenfold

// The daemon through which trainers share GPUs, and its keeper. NVIDIA's control program needs a GPU and is no part of
// this program: a shell script stands for it here, with its words, its pipe and a server that has left its session.
// What is tested is ours: that the daemon is started with folders of its own, and is gone when the run is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "experiments/file_text.h"
#include "tests/integration/run_process.h"

namespace tenfold {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

constexpr const char* kStandIn = R"sh(#!/bin/sh
here=$(dirname "$0")
if [ "$1" = "-f" ]; then
  if [ -e "$here/refuse" ]; then echo "An instance of this daemon is already running"; exit 1; fi
  setsid sh -c 'exec sleep 1234' &
  echo $$ > "$CUDA_MPS_PIPE_DIRECTORY/nvidia-cuda-mps-control.pid"
  touch "$CUDA_MPS_LOG_DIRECTORY/control.log" "$CUDA_MPS_PIPE_DIRECTORY/control"
  exec sleep 4321
fi
read -r word
echo "$word" >> "$here/said"
if [ ! -e "$here/deaf" ]; then kill "$(cat "$CUDA_MPS_PIPE_DIRECTORY/nvidia-cuda-mps-control.pid")"; fi
)sh";

class GpuSharing : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(work_.file("bin"));
    std::filesystem::create_directories(work_.file("mps"));
    work_.write("bin/nvidia-cuda-mps-control", kStandIn);
    std::filesystem::permissions(work_.file("bin/nvidia-cuda-mps-control"), std::filesystem::perms::owner_all);
    work_.set("PATH", work_.file("bin").string() + ":/usr/bin:/bin");
    launcher_ = ::fork();
    if (launcher_ == 0) {
      ::execlp("sleep", "sleep", "1000", nullptr);
      ::_exit(127);
    }
  }
  void TearDown() override { end_launcher(); }
  void end_launcher() {
    if (launcher_ > 0) {
      ::kill(launcher_, SIGKILL);
      ::waitpid(launcher_, nullptr, 0);
    }
    launcher_ = -1;
  }
  // What the keeper says of the daemon.
  std::string keep() {
    const Finished started = work_.tenfold({"mps-keeper", std::to_string(launcher_), work_.file("mps").string()});
    EXPECT_EQ(started.exit_code, 0) << started.output;
    return state();
  }
  std::string state() {
    for (int i = 0; i < 1000; ++i) {
      std::ifstream in(work_.file("mps/state"));
      std::string line;
      if (std::getline(in, line)) return line;
      std::this_thread::sleep_for(milliseconds(10));
    }
    return "nothing";
  }
  std::string said() { return file_text(work_.file("bin/said")).value_or(""); }

  Workspace work_;
  pid_t launcher_ = -1;
};

TEST_F(GpuSharing, TheDaemonHasFoldersOfItsOwnAndEndsWithTheRun) {
  ASSERT_EQ(keep(), "on");
  EXPECT_TRUE(work_.wait_until_some("4321", 1, seconds(10)));
  EXPECT_TRUE(work_.wait_until_some("1234", 1, seconds(10)));
  EXPECT_TRUE(std::filesystem::exists(work_.file("mps/pipe/control")));
  EXPECT_TRUE(std::filesystem::exists(work_.file("mps/log/control.log")));
  end_launcher();
  EXPECT_TRUE(work_.wait_until_none_left(seconds(10))) << "its server has left its session and is ended nevertheless";
  EXPECT_EQ(said(), "quit\n");
  EXPECT_FALSE(std::filesystem::exists(work_.file("mps/pipe"))) << "nobody waits at its pipes";
}

TEST_F(GpuSharing, ADaemonThatDoesNotListenIsKilled) {
  work_.write("bin/deaf", "");
  ASSERT_EQ(keep(), "on");
  end_launcher();
  EXPECT_TRUE(work_.wait_until_none_left(seconds(10)));
}

TEST_F(GpuSharing, SignalsOfAClusterDoNotEndItButTheKernelDoesWhenItsKeeperIsKilled) {
  ASSERT_EQ(keep(), "on");
  const std::vector<pid_t> keeper = work_.processes("mps-keeper");
  ASSERT_EQ(keeper.size(), 1u);
  ::kill(keeper.front(), SIGTERM);
  ::kill(keeper.front(), SIGUSR2);
  std::this_thread::sleep_for(milliseconds(300));
  EXPECT_EQ(work_.processes("mps-keeper").size(), 1u);
  ::kill(keeper.front(), SIGKILL);
  EXPECT_TRUE(Workspace::wait_until([&] { return work_.processes("4321").empty(); }, seconds(5)));
  // A real server is gone a second after its daemon (MPS of CUDA 13); the stand-in's knows nothing of that.
  for (const pid_t server : work_.processes("1234")) ::kill(server, SIGKILL);
}

TEST_F(GpuSharing, WhereItCannotBeHadTheReasonIsTold) {
  work_.write("bin/refuse", "");
  const std::string refused = keep();
  EXPECT_THAT(refused, HasSubstr("nvidia-cuda-mps-control exited with code 1"));
  EXPECT_THAT(refused, HasSubstr("already running"));
  EXPECT_TRUE(work_.wait_until_none_left(seconds(10)));

  std::filesystem::remove(work_.file("mps/state"));
  work_.set("PATH", work_.file("mps").string());
  EXPECT_EQ(keep(), "nvidia-cuda-mps-control is not installed");
  EXPECT_TRUE(work_.wait_until_none_left(seconds(10)));
}

TEST_F(GpuSharing, NothingIsStartedForARunThatIsOver) {
  const pid_t gone = launcher_;
  end_launcher();
  EXPECT_EQ(work_.tenfold({"mps-keeper", std::to_string(gone), work_.file("mps").string()}).exit_code, 0);
  EXPECT_TRUE(work_.wait_until_none_left(seconds(10)));
  EXPECT_FALSE(std::filesystem::exists(work_.file("mps/pipe")));
}

}  // namespace
}  // namespace tenfold

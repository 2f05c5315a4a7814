#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

#include "experiments/error.h"
#include "runner/gpu_sharing.h"
#include "runner/spawn.h"
#include "runner/unix_socket.h"

// The process that owns a run's MPS daemon.
namespace tenfold {
namespace {

constexpr const char* kControl = "nvidia-cuda-mps-control";
constexpr auto kStartLimit = std::chrono::seconds(10);
constexpr std::chrono::milliseconds kQuitLimit{1500}, kTermLimit{500}, kLook{20};

std::filesystem::path find_control() {
  std::istringstream folders(std::getenv("PATH") ? std::getenv("PATH") : "/usr/bin:/bin");
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::filesystem::path candidate = std::filesystem::path(folder.empty() ? "." : folder) / kControl;
    std::error_code ignored;
    if (std::filesystem::is_regular_file(candidate, ignored) && ::access(candidate.c_str(), X_OK) == 0)
      return candidate;
  }
  return {};
}

// Into the background, in a session of its own: the worker that asked for it may die before the run ends.
void leave_parent() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw Error(ErrorKind::communication, "cannot make a pipe");
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) throw Error(ErrorKind::communication, "cannot fork");
  if (child > 0) {
    write_end.reset();
    char byte;
    [[maybe_unused]] const ssize_t got = ::read(read_end.get(), &byte, 1);  // ends when the child has its session
    ::_exit(0);
  }
  ::setsid();
}

class Keeper {
 public:
  Keeper(pid_t launcher, std::filesystem::path folder)
      : folder_(std::move(folder)), launcher_(static_cast<int>(::syscall(SYS_pidfd_open, launcher, 0))) {}

  void run() {
    if (!launcher_) return;  // it is gone already
    const std::string problem = start();
    say(problem.empty() ? "on" : problem);
    if (!problem.empty()) return end();
    // A daemon that ends by itself leaves no pipes behind that trainers would wait at.
    while (!launcher_ended(kTermLimit))
      if (control_.ended()) break;
    end();
  }

 private:
  bool launcher_ended(std::chrono::milliseconds wait) {
    pollfd watched{launcher_.get(), POLLIN, 0};
    return ::poll(&watched, 1, static_cast<int>(wait.count())) > 0;
  }

  // Why it does not run; empty: it does.
  std::string start() {
    const std::filesystem::path program = find_control();
    if (program.empty()) return std::string(kControl) + " is not installed";
    std::error_code error;
    std::filesystem::create_directory(folder_ / "pipe", error);
    std::filesystem::create_directory(folder_ / "log", error);
    if (error) return "cannot make folders in " + folder_.string() + ": " + error.message();
    // Trainers choose their GPUs among those that the daemon sees: all of them.
    ::unsetenv("CUDA_VISIBLE_DEVICES");
    environment_ = environment_with({"CUDA_MPS_PIPE_DIRECTORY=" + (folder_ / "pipe").string(),
                                     "CUDA_MPS_LOG_DIRECTORY=" + (folder_ / "log").string()});
    program_ = program;
    try {
      control_ = spawn({program, {"-f"}, environment_, folder_ / "control.log", -1});
    } catch (const Error& failed) {
      return failed.what();
    }
    const auto until = std::chrono::steady_clock::now() + kStartLimit;
    while (!std::filesystem::exists(folder_ / "pipe" / "control")) {
      if (control_.ended()) {
        const std::string tail = log_tail(folder_ / "control.log", 0);
        return std::string(kControl) + " " + control_.how_it_ended() + (tail.empty() ? "" : " (" + tail + ")");
      }
      if (std::chrono::steady_clock::now() > until) return std::string(kControl) + " opened no pipe within 10 s";
      if (launcher_ended(kLook)) return "the run has ended";
    }
    return "";
  }

  void say(const std::string& state) {
    std::ofstream(folder_ / "state.aside") << state << "\n";
    std::error_code ignored;
    std::filesystem::rename(folder_ / "state.aside", folder_ / "state", ignored);
  }

  void end() {
    if (control_.started() && !control_.ended()) {
      quit();
      control_.signal(SIGTERM);
      control_.wait_for(kTermLimit);
    }
    control_.kill_session();
    control_.wait_for(kTermLimit);
    kill_adopted();
    std::error_code ignored;
    std::filesystem::remove_all(folder_ / "pipe", ignored);
    if (folder_.filename().string().starts_with("tenfold-mps-") && launcher_ended(kTermLimit))
      std::filesystem::remove_all(folder_, ignored);
  }

  // As its manual says: the word "quit" at its input.
  void quit() {
    std::ofstream(folder_ / "quit") << "quit\n";
    try {
      ChildProcess asked = spawn({"/bin/sh",
                                  {"-c", "exec \"$0\" < \"$1\"", program_.string(), (folder_ / "quit").string()},
                                  environment_,
                                  folder_ / "control.log",
                                  -1});
      asked.wait_for(kQuitLimit);
    } catch (const Error&) {
      // There are harder ways.
    }
    control_.wait_for(kTermLimit);
  }

  // Servers of the daemon that outlived it are our children now.
  static void kill_adopted() {
    for (int round = 0; round < 50; ++round) {
      std::ifstream children("/proc/self/task/" + std::to_string(::getpid()) + "/children");
      bool any = false;
      for (pid_t pid = 0; children >> pid; any = true) ::kill(pid, SIGKILL);
      while (::waitpid(-1, nullptr, WNOHANG) > 0) {
      }
      if (!any) return;
      std::this_thread::sleep_for(kLook);
    }
  }

  std::filesystem::path folder_, program_;
  std::vector<std::string> environment_;
  UniqueFd launcher_;
  ChildProcess control_;
};

}  // namespace

int keep_mps(int argc, char** argv) {
  if (argc != 4) throw Error(ErrorKind::config, "tenfold mps-keeper is started by workers; there is nothing to start");
  leave_parent();
  // A cluster's signals reach every process of a job; the daemon is needed until the ranks are gone.
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2}) ::signal(number, SIG_IGN);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  Keeper(static_cast<pid_t>(std::atoi(argv[2])), argv[3]).run();
  return kExitDone;
}

}  // namespace tenfold

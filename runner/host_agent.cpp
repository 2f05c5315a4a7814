#include "runner/host_agent.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>

#include "experiments/error.h"
#include "runner/child.h"
#include "runner/private_folder.h"
#include "runner/process_table.h"
#include "runner/rank_slots.h"
#include "runner/spawn.h"
#include "runner/unix_socket.h"

namespace tenfold {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr auto kLook = milliseconds(200);
// Of a daemon whose workers have ended; when all is well it follows them at once.
constexpr auto kAloneLimit = milliseconds(700);
constexpr auto kStartLimit = std::chrono::minutes(10);  // until it has workers: all hosts have to be up
constexpr auto kEndLimit = milliseconds(500);

SpawnRequest daemon_request(int argc, char** argv, const std::filesystem::path& folder) {
  const std::filesystem::path daemon = argv[2];
  SpawnRequest request;
  request.program = daemon.has_parent_path() ? daemon : installed_program(daemon.string());
  request.arguments.assign(argv + 3, argv + argc);
  // Between its signals to the workers. mpirun waits long, for a drain; this daemon kills only when mpirun is gone or
  // ends, and serves none of the calls in which MPI may hold a worker meanwhile.
  const auto found = std::ranges::find(request.arguments, "odls_base_sigkill_timeout");
  if (found != request.arguments.end() && found + 1 != request.arguments.end()) *(found + 1) = "1";
  // Open MPI's daemons look at TMPDIR alone.
  request.environment =
      environment_with({std::string(kHostFolderVariable) + "=" + folder.string(), "TMPDIR=" + folder.string()});
  request.log = folder / "daemon.log";
  return request;
}

// Lets go of the ssh that we came by: it ends, and with it mpirun's hold on what becomes of it.
void detach() {
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const int standard : {0, 1, 2}) ::dup2(null.get(), standard);
}

// Until the daemon ends, or has to be ended. Says 'w' when it has workers, or else what is last in its log.
int watch_daemon(int argc, char** argv, UniqueFd say) {
  const PrivateFolder folder(mpi_bytes(usable_cores()));
  const SpawnRequest request = daemon_request(argc, argv, folder.path());
  ChildProcess daemon = spawn(request);
  Clock::time_point alone_since = Clock::now() + kStartLimit;
  while (!daemon.wait_for(kLook)) {
    if (has_children(daemon.pid())) {
      alone_since = Clock::now();
      if (!say) continue;
      detach();
      [[maybe_unused]] const ssize_t written = ::write(say.get(), "w", 1);
      say.reset();
    } else if (Clock::now() - alone_since > kAloneLimit) {
      break;
    }
  }
  if (!daemon.ended()) {
    daemon.signal(SIGTERM);
    daemon.wait_for(kEndLimit);
  }
  daemon.kill_whole_session();
  daemon.wait_for(kEndLimit);
  const std::string last = say ? log_tail(request.log, 0) : "";
  if (!last.empty()) std::cerr << "tenfold host-agent: " << last << std::endl;
  return daemon.exit_code();
}

}  // namespace

int run_host_agent(int argc, char** argv) {
  if (argc < 3)
    throw Error(ErrorKind::config, "tenfold host-agent is started by mpirun; there is nothing to start by hand");
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw Error(ErrorKind::communication, "cannot make a pipe");
  UniqueFd hear(ends[0]), say(ends[1]);
  const pid_t watcher = ::fork();
  if (watcher < 0) throw Error(ErrorKind::communication, "cannot start a second process");
  if (watcher == 0) {
    hear.reset();
    ::setsid();
    return watch_daemon(argc, argv, std::move(say));
  }
  say.reset();
  char word = 0;
  if (::read(hear.get(), &word, 1) == 1) return kExitDone;
  int status = 0;
  ::waitpid(watcher, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace tenfold

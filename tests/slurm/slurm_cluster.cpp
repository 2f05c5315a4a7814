#include "tests/slurm/slurm_cluster.h"
#include "experiments/file_text.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <map>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

namespace tenfold {
namespace {

constexpr auto kStartLimit = std::chrono::seconds(60);

std::string contents(const std::filesystem::path& file) { return file_text(file).value_or(""); }

// Several at once, so that they differ.
std::vector<int> free_ports(std::size_t count) {
  std::vector<int> sockets, ports;
  for (std::size_t i = 0; i < count; ++i) {
    sockets.push_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    socklen_t size = sizeof address;
    if (::bind(sockets.back(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::getsockname(sockets.back(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
      throw std::runtime_error("no free port");
    ports.push_back(ntohs(address.sin_port));
  }
  for (const int socket : sockets) ::close(socket);
  return ports;
}

// All processes whose chain of parents leads to `root`.
std::vector<pid_t> descendants(pid_t root) {
  std::map<pid_t, pid_t> parents;
  std::error_code error;
  for (std::filesystem::directory_iterator it("/proc", error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string stat = contents(it->path() / "stat");
    const std::size_t state = stat.rfind(')');
    if (state == std::string::npos || state + 4 >= stat.size() || stat[state + 2] == 'Z') continue;
    parents[static_cast<pid_t>(std::stol(name))] = static_cast<pid_t>(std::atol(stat.c_str() + state + 4));
  }
  std::vector<pid_t> found;
  for (const auto& [pid, parent] : parents) {
    pid_t up = parent;
    while (up != root && parents.contains(up)) up = parents[up];
    if (up == root) found.push_back(pid);
  }
  return found;
}

void start_daemon(const std::vector<std::string>& words, const std::string& log) {
  if (::fork() != 0) return;
  const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  const int null = ::open("/dev/null", O_RDONLY);
  ::dup2(null, 0);
  ::dup2(out, 1);
  ::dup2(out, 2);
  for (int fd = 3; fd < 256; ++fd) ::close(fd);
  ::setsid();
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

// Lives until the pipe ends, which it does when the test lets go of it or dies. What slurmd starts is handed to this
// process when its own parent ends, so nothing gets away.
[[noreturn]] void guard_daemons(int pipe, const std::vector<std::vector<std::string>>& daemons,
                                const std::string& log) {
  ::setsid();
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(number, SIG_IGN);
  for (const auto& words : daemons) start_daemon(words, log);
  char none;
  while (::read(pipe, &none, 1) < 0 && errno == EINTR) {
  }
  for (int round = 0; round < 1000; ++round) {
    const std::vector<pid_t> left = descendants(::getpid());
    for (const pid_t pid : left) ::kill(pid, SIGKILL);
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    if (left.empty()) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ::_exit(0);
}

std::string program(const char* name) {
  for (const char* folder : {"/usr/sbin/", "/usr/bin/", "/usr/local/sbin/", "/usr/local/bin/"})
    if (const std::string path = std::string(folder) + name; ::access(path.c_str(), X_OK) == 0) return path;
  return "";
}

}  // namespace

std::string why_no_slurm() {
  if (::geteuid() != 0) return "SLURM's daemons are started as root, and this is not root";
  for (const char* name : {"munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel"})
    if (program(name).empty()) return std::string(name) + " is not installed (Debian: slurm-wlm, munge)";
  return "";
}

SlurmCluster::SlurmCluster(std::filesystem::path folder, const SecondHost* far) : folder_(std::move(folder)) {
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  host_ = host;
  host_ = host_.substr(0, host_.find('.'));
  configure(far);
  const std::string conf = configuration().string(), munge = (folder_ / "munge").string();
  std::vector<std::vector<std::string>> daemons = {
      {program("munged"), "--foreground", "--force", "--key-file=" + munge + "/key", "--socket=" + munge + "/socket",
       "--pid-file=" + munge + "/pid", "--log-file=" + munge + "/log", "--seed-file=" + munge + "/seed"},
      {program("slurmctld"), "-D", "-c", "-f", conf},
      {program("slurmd"), "-D", "-N", host_, "-f", conf}};
  if (far) {
    daemons.push_back(far->over_there());
    for (const std::string& word :
         {program("slurmd"), std::string("-D"), std::string("-N"), std::string("far"), std::string("-f"), conf})
      daemons.back().push_back(word);
  }
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
  guard_ = ::fork();
  if (guard_ == 0) {
    ::close(ends[1]);
    guard_daemons(ends[0], daemons, (folder_ / "daemons.log").string());
  }
  ::close(ends[0]);
  alive_ = ends[1];
  try {
    wait_until_idle();
  } catch (...) {
    ::close(alive_);
    ::waitpid(guard_, nullptr, 0);
    throw;
  }
}

SlurmCluster::~SlurmCluster() {
  ::close(alive_);
  ::waitpid(guard_, nullptr, 0);
}

void SlurmCluster::configure(const SecondHost* far) const {
  const std::string ours = "tmp/" + host_;
  for (const char* part : {"state", "spool", "munge", "tmp/far", ours.c_str()}) {
    std::filesystem::create_directories(folder_ / part);
    std::filesystem::permissions(folder_ / part, std::filesystem::perms(0755));
  }
  std::random_device random;
  std::string key;
  for (int i = 0; i < 128; ++i) key += static_cast<char>(random());
  const std::filesystem::path key_file = folder_ / "munge/key";
  std::ofstream(key_file, std::ios::binary) << key;
  std::filesystem::permissions(key_file, std::filesystem::perms(0400));

  const std::vector<int> ports = free_ports(2);
  const std::string at = folder_.string(), address = far ? far->our_address() : "127.0.0.1";
  std::ofstream(configuration())
      << "ClusterName=tenfold\nSlurmctldHost=" << host_ << "(" << address << ")\n"
      << "SlurmUser=root\nSlurmdUser=root\n"
      << "AuthType=auth/munge\nCredType=cred/munge\nAuthInfo=socket=" << at
      << "/munge/socket,cred_expire=5"  // a requeued job waits for as long, not for 2 minutes
      << "\nSlurmctldPort=" << ports[0] << "\nSlurmdPort=" << ports[1] << "\nSlurmctldPidFile=" << at
      << "/slurmctld.pid\nSlurmdPidFile=" << at << "/slurmd.%n.pid\nStateSaveLocation=" << at
      << "/state\nSlurmdSpoolDir=" << at << "/spool/%n\nSlurmctldLogFile=" << at
      << "/slurmctld.log\nSlurmdLogFile=" << at << "/slurmd.%n.log\nTmpFS=" << at
      << "/tmp/%n\n"  // hosts of this test share /tmp, where SLURM's PMIx would meet itself
      // Without cgroups, which containers seldom may make.
      << "ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n"
         "JobAcctGatherType=jobacct_gather/none\n"
         "AccountingStorageType=accounting_storage/none\n"
         "SelectType=select/cons_tres\nSelectTypeParameters=CR_Core\n"
         "SchedulerType=sched/backfill\n"
         "SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1\n"
         "PreemptType=preempt/partition_prio\nPreemptMode=REQUEUE\n"
         "SlurmctldParameters=preempt_send_user_signal\n"
         "MpiDefault=none\nReturnToService=2\nInactiveLimit=0\nMinJobAge=300\n"
         "KillWait=5\nWaittime=0\nJobRequeue=1\nSlurmctldTimeout=30\nSlurmdTimeout=300\n"
         "SlurmdParameters=config_overrides\n"
      << "NodeName=" << host_ << " NodeAddr=" << address << " CPUs=8 RealMemory=1000 State=UNKNOWN\n"
      << "PartitionName=main Nodes=" << host_ << " Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=20\n"
      << "PartitionName=urgent Nodes=" << host_ << " MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF\n";
  if (far)
    std::ofstream(configuration(), std::ios::app)
        << "NodeName=far NodeHostname=far NodeAddr=" << far->its_address() << " CPUs=8 RealMemory=1000 State=UNKNOWN\n"
        << "PartitionName=pair Nodes=" << host_ << ",far MaxTime=INFINITE State=UP\n";
}

void SlurmCluster::wait_until_idle() {
  const std::string ask = "SLURM_CONF='" + configuration().string() + "' sinfo -h -o %T 2>&1";
  const auto deadline = std::chrono::steady_clock::now() + kStartLimit;
  std::string said;
  while (std::chrono::steady_clock::now() < deadline) {
    said.clear();
    if (FILE* answer = ::popen(ask.c_str(), "r")) {
      char text[256];
      while (std::fgets(text, sizeof text, answer)) said += text;
      ::pclose(answer);
    }
    if (!said.empty() && said.find_first_not_of("idle\n") == std::string::npos) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  throw std::runtime_error("SLURM does not come up: " + said + contents(folder_ / "daemons.log") +
                           contents(folder_ / "slurmctld.log") + contents(folder_ / ("slurmd." + host_ + ".log")) +
                           contents(folder_ / "slurmd.far.log"));
}

}  // namespace tenfold

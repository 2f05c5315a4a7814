#include "runner/front_mpirun.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "experiments/error.h"
#include "runner/spawn.h"

extern char** environ;

namespace tenfold {
namespace {

constexpr std::string_view kFolderPrefix = "tenfold-run-";

std::filesystem::path folder_base() {
  if (::access("/dev/shm", W_OK | X_OK) == 0) return "/dev/shm";
  const char* wanted = std::getenv("TMPDIR");
  return wanted && *wanted ? wanted : "/tmp";
}

// Folders of runs that were killed: named after the process, which is no more.
void remove_leftovers(const std::filesystem::path& base) {
  std::error_code error;
  for (std::filesystem::directory_iterator it(base, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with(kFolderPrefix)) continue;
    struct stat info {};
    if (::lstat(it->path().c_str(), &info) != 0 || info.st_uid != ::getuid() || !S_ISDIR(info.st_mode)) continue;
    const long pid = std::strtol(name.c_str() + kFolderPrefix.size(), nullptr, 10);
    if (pid <= 0 || ::kill(static_cast<pid_t>(pid), 0) == 0 || errno != ESRCH) continue;
    std::error_code ignored;
    std::filesystem::remove_all(it->path(), ignored);
  }
}

std::filesystem::path find_program(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::string rest = path ? path : "";
  rest += ":/usr/local/bin:/usr/bin";
  for (std::size_t begin = 0; begin <= rest.size();) {
    const std::size_t end = std::min(rest.find(':', begin), rest.size());
    const std::filesystem::path candidate = std::filesystem::path(rest.substr(begin, end - begin)) / name;
    if (::access(candidate.c_str(), X_OK) == 0 && std::filesystem::is_regular_file(candidate)) return candidate;
    begin = end + 1;
  }
  throw Error(ErrorKind::communication, name +
                                            " is not installed or not in PATH: run ./tenfold setup, or load your "
                                            "cluster's Open MPI module");
}

bool several_hosts() {
  const char* nodes = std::getenv("SLURM_JOB_NUM_NODES");
  return (nodes && std::atoi(nodes) > 1) || std::getenv("OMPI_MCA_orte_default_hostfile");
}

}  // namespace

PrivateFolder::PrivateFolder() {
  const std::filesystem::path base = folder_base();
  remove_leftovers(base);
  std::string name = (base / (std::string(kFolderPrefix) + std::to_string(::getpid()) + "-XXXXXX")).string();
  if (!::mkdtemp(name.data()))
    throw Error(ErrorKind::storage, "cannot make a folder in " + base.string() + ": " + std::strerror(errno));
  path_ = name;
}

PrivateFolder::~PrivateFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

ChildProcess start_mpirun(const RankOptions& options, const std::filesystem::path& private_folder,
                          const std::filesystem::path& log) {
  std::vector<std::string> arguments = {
      "-n", std::to_string(options.slots + 1), "--oversubscribe", "--bind-to", "none",
      // A dead rank costs its array, not the run; and there is time to end before mpirun kills.
      "--enable-recovery", "--mca", "odls_base_sigkill_timeout", "30", "--mca", "orte_tmpdir_base",
      private_folder.string()};
  const auto mca = [&](const char* name, const std::string& value) {
    arguments.insert(arguments.end(), {"--mca", name, value});
  };
  if (!several_hosts()) {
    mca("plm", "isolated");  // else mpirun wants ssh, which a container may lack, though it starts nothing elsewhere
    mca("pml", "ob1");
    mca("btl", "self,vader,tcp");
    mca("btl_vader_single_copy_mechanism", "none");  // containers forbid it, and warn
    mca("btl_vader_backing_directory", private_folder.string());
  }
  for (char** entry = environ; *entry; ++entry) {
    const std::string variable = *entry;
    if (variable.starts_with("TENFOLD_"))
      arguments.insert(arguments.end(), {"-x", variable.substr(0, variable.find('='))});
  }
  arguments.push_back((program_folder() / "tenfold").string());
  arguments.push_back("rank");
  arguments.push_back(encode(options));
  return spawn_bound_to_us({find_program("mpirun"), arguments,
                            environment_with({"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"}), log,
                            -1});
}

}  // namespace tenfold

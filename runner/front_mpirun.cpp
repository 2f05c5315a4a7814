#include "runner/front_mpirun.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "experiments/error.h"
#include "runner/host_agent.h"
#include "runner/spawn.h"

extern char** environ;

namespace tenfold {

bool several_hosts(const HostLayout& layout) {
  if (!layout.hosts.empty()) return layout.several();
  const char* nodes = std::getenv("SLURM_JOB_NUM_NODES");
  return (nodes && std::atoi(nodes) > 1) || std::getenv("OMPI_MCA_orte_default_hostfile");
}

namespace {

// Rank 0 is placed on the first host's first slot, and nobody computes in that.
std::filesystem::path write_hostfile(const HostLayout& layout, const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "hosts";
  std::ofstream out(file);
  for (const Host& host : layout.hosts) out << host.name << " slots=" << host.slots + (host.here ? 1 : 0) << "\n";
  out.close();
  if (!out) throw Error(ErrorKind::storage, "cannot write " + file.string());
  return file;
}

// Settings of Open MPI. What the user has set in the environment stays.
class Settings {
 public:
  void set(const std::string& name, const std::string& value) {
    if (!std::getenv(("OMPI_MCA_" + name).c_str())) arguments_.insert(arguments_.end(), {"--mca", name, value});
  }
  const std::vector<std::string>& arguments() const { return arguments_; }

 private:
  std::vector<std::string> arguments_;
};

Settings settings_for(const HostLayout& layout, const std::filesystem::path& program) {
  Settings settings;
  settings.set("odls_base_sigkill_timeout", "30");  // time to end before mpirun kills
  // Few and small messages: the transports whose behaviour at a peer's death is known.
  settings.set("pml", "ob1");
  settings.set("btl", "self,vader,tcp");
  settings.set("btl_vader_single_copy_mechanism", "none");  // containers forbid it, and warn
  if (!several_hosts(layout)) {
    settings.set("plm", "isolated");  // else mpirun wants ssh, which a container may lack, though it starts nothing
    return settings;
  }
  if (layout.hosts.empty()) return settings;  // the cluster's own launcher looks after its nodes
  // Every daemon is linked to mpirun itself: the loss of one costs no other.
  settings.set("routed_radix", std::to_string(std::max<std::size_t>(64, layout.hosts.size())));
  settings.set("plm_rsh_num_concurrent", std::to_string(std::max<std::size_t>(128, layout.hosts.size())));
  if (!std::getenv("OMPI_MCA_plm_rsh_agent")) {
    // No question that nobody answers; and the ssh to a host that is gone ends.
    settings.set("plm_rsh_agent", "ssh");
    settings.set("plm_rsh_args", "-o BatchMode=yes -o ServerAliveInterval=10 -o ServerAliveCountMax=3");
  }
  if (program.string().find(' ') == std::string::npos)
    settings.set("orte_launch_agent", program.string() + " host-agent orted");
  return settings;
}

// For the live store of one that is published (db/store_home.h): what is kept there must outlive the run's folder.
std::string users_node_folder() {
  const char* named = std::getenv("TENFOLD_NODE_FOLDER");
  const char* temporary = std::getenv("TMPDIR");
  return std::string("TENFOLD_NODE_FOLDER=") + (named && *named ? named : temporary && *temporary ? temporary : "/tmp");
}

}  // namespace

ChildProcess start_mpirun(const RankOptions& options, const HostLayout& layout,
                          const std::filesystem::path& private_folder, const std::filesystem::path& log) {
  const std::filesystem::path program = program_folder() / "tenfold";
  std::vector<std::string> arguments = {"-n", std::to_string(options.slots + 1), "--oversubscribe", "--bind-to", "none",
                                        // A dead rank costs its array, not the run.
                                        "--enable-recovery"};
  if (!layout.hosts.empty())
    arguments.insert(arguments.end(),
                     {"--hostfile", write_hostfile(layout, private_folder).string(), "--map-by", "slot"});
  const Settings settings = settings_for(layout, program);
  arguments.insert(arguments.end(), settings.arguments().begin(), settings.arguments().end());
  for (char** entry = environ; *entry; ++entry) {
    const std::string variable = *entry;
    if (variable.starts_with("TENFOLD_") && !variable.starts_with(kHostFolderVariable))
      arguments.insert(arguments.end(), {"-x", variable.substr(0, variable.find('='))});
  }
  arguments.push_back(program.string());
  arguments.push_back("rank");
  arguments.push_back(encode(options));
  // The ranks of this host keep their files in our folder; those elsewhere in one of their own (host_agent.h). TMPDIR,
  // for orte_tmpdir_base would hold for all hosts, and orte_local_tmpdir_base stops the ranks.
  return spawn({installed_program("mpirun"), arguments,
                environment_with({"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
                                  "TMPDIR=" + private_folder.string(), users_node_folder(),
                                  std::string(kHostFolderVariable) + "=" + private_folder.string()}),
                log, -1});
}

}  // namespace tenfold

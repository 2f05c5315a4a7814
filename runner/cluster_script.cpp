#include "runner/cluster_script.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "experiments/error.h"
#include "experiments/problems.h"
#include "runner/job_time.h"

namespace tenfold {
namespace {

bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("_./:=+,@%-").find(c) != std::string_view::npos;
}

// For the shell: as it is where nothing is special, else between single quotes.
std::string shell_word(const std::string& text) {
  if (!text.empty() && std::all_of(text.begin(), text.end(), is_plain)) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

// A line of `#SBATCH`. sbatch takes quotes and backslashes apart in ways of its own, so there are none.
std::string option_line(const std::string& name, const std::string& value) {
  const bool special = std::any_of(value.begin(), value.end(), [](unsigned char c) {
    return c < 0x20 || c == 0x7f || c == '"' || c == '\'' || c == '\\' || c == '#';
  });
  if (special || value.empty())
    throw Error(ErrorKind::config, "--" + name + "=" + quote(value) +
                                       " cannot stand in a batch script: no quotes, backslashes or # there");
  const bool blank = value.find(' ') != std::string::npos;
  return "#SBATCH --" + name + "=" + (blank ? "\"" + value + "\"" : value) + "\n";
}

// In the name of a file % begins a code of sbatch's.
std::string file_name(const std::filesystem::path& path) {
  std::string name;
  for (const char c : path.string()) name += c == '%' ? std::string("%%") : std::string(1, c);
  return name;
}

std::string job_name(const std::string& experiment) {
  std::string name;
  for (const char c : experiment) name += is_plain(c) && c != '/' && c != '%' && c != '=' ? c : '-';
  return name;
}

int workers_per_node(const ClusterJob& job) { return (job.slots + job.nodes - 1) / job.nodes; }

std::string options(const ClusterJob& job, const ClusterSite& site) {
  std::string text = option_line("job-name", job_name(job.experiment));
  text += option_line("nodes", std::to_string(job.nodes));
  // A core for every worker with its trainer, and one for the coordinator, which is on the first node.
  text += option_line("ntasks-per-node", std::to_string(workers_per_node(job) + 1));
  if (job.gpus_per_node > 0) text += option_line("gpus-per-node", std::to_string(job.gpus_per_node));
  if (!job.time.empty()) text += option_line("time", job.time);
  const std::string partition = job.partition.empty() ? site.partition : job.partition;
  const std::string account = job.account.empty() ? site.account : job.account;
  if (!partition.empty()) text += option_line("partition", partition);
  if (!account.empty()) text += option_line("account", account);
  if (job.array > 0) text += option_line("array", "1-" + std::to_string(job.array));
  text += option_line("chdir", std::filesystem::current_path().string());
  text += option_line("output", file_name(job.folder) + (job.array > 0 ? "/%x-%A_%a.log" : "/%x-%j.log"));
  text += "#SBATCH --open-mode=append\n#SBATCH --requeue\n";
  text += option_line("signal", "B:USR2@" + std::to_string(signal_lead_s(site, job.time)));
  for (const std::string& option : site.sbatch) {
    if (option.find('\n') != std::string::npos) throw Error(ErrorKind::config, "site.yaml: sbatch: one line each");
    text += "#SBATCH " + option + "\n";
  }
  text.pop_back();
  return text;
}

std::string site_lines(const ClusterSite& site) {
  std::string text;
  for (const std::string& module : site.modules) text += "module load " + shell_word(module) + "\n";
  for (const auto& [name, value] : site.environment) text += "export " + name + "=" + shell_word(value) + "\n";
  for (const std::string& line : site.setup) text += line + "\n";
  return text;
}

// Which host each task of srun goes to: the coordinator before the workers of the first.
std::string host_lines(const ClusterJob& job) {
  const std::string per_node = std::to_string(workers_per_node(job));
  return "# One line per task: the coordinator, then the workers of a node after another.\n"
         "export SLURM_HOSTFILE=" +
         shell_word(job.folder.string()) +
         "/$me.hosts\n"
         "coordinator=1\n"
         "scontrol show hostnames \"$SLURM_JOB_NODELIST\" | while read -r host; do\n"
         "  for ((i = 0; i < " +
         per_node +
         " + coordinator; ++i)); do echo \"$host\"; done\n"
         "  coordinator=0\n"
         "done >\"$SLURM_HOSTFILE\"\n\n";
}

// mpirun fills the nodes in order, each with as many ranks as this says.
std::string rank_lines(const ClusterJob& job) {
  const std::string per_node = std::to_string(workers_per_node(job));
  return "# The coordinator is on the first node, beside its workers.\n"
         "export SLURM_TASKS_PER_NODE='" +
         std::to_string(workers_per_node(job) + 1) + "," + per_node +
         (job.nodes > 2 ? "(x" + std::to_string(job.nodes - 1) + ")" : "") + "'\n";
}

std::string command(const ClusterJob& job, const ClusterSite& site) {
  const bool srun = job.launcher == "srun";
  std::string text = job.nodes == 1 ? "" : srun ? host_lines(job) : rank_lines(job);
  text += "command=(\n";
  if (srun)
    text += "  srun --mpi=pmix --nodes=" + std::to_string(job.nodes) + " --ntasks=" + std::to_string(job.slots + 1) +
            (job.nodes > 1 ? " --distribution=arbitrary" : "") + "\n";
  std::string container;
  for (const std::string& word : site.container) container += (container.empty() ? "  " : " ") + shell_word(word);
  if (!container.empty()) text += container + "\n";
  text += "  " + shell_word(site.program.empty() ? job.program.string() : site.program) + " run " +
          shell_word(job.experiment_file.string()) + "\n";
  text += "  --db " + shell_word(job.db.string());
  if (job.array > 0) text += " --shard \"$SLURM_ARRAY_TASK_ID/" + std::to_string(job.array) + "\"";
  text += "\n  --slots " + std::to_string(job.slots) + " --device " + (job.gpus_per_node > 0 ? "cuda" : "cpu");
  if (!job.share_fits) text += " --no-share";
  text += "\n";
  for (const std::string& set : job.overrides) text += "  --set " + shell_word(set) + "\n";
  return text + "  \"${time_limit[@]}\"\n)";
}

std::string filled(std::string text, const std::map<std::string, std::string>& values) {
  std::string out;
  for (std::size_t at = 0;;) {
    const std::size_t open = text.find("{{", at);
    const std::size_t close = open == std::string::npos ? open : text.find("}}", open);
    if (close == std::string::npos) return out + text.substr(at);
    const auto found = values.find(text.substr(open + 2, close - open - 2));
    if (found == values.end()) throw Error(ErrorKind::internal, "slurm/job.sbatch holds a place that nobody fills");
    out += text.substr(at, open - at) + found->second;
    at = close + 2;
  }
}

}  // namespace

std::filesystem::path job_folder(const std::filesystem::path& db) { return db.string() + ".jobs"; }

int signal_lead_s(const ClusterSite& site, const std::string& time) {
  const auto limit_s = parse_slurm_time(time);
  return static_cast<int>(limit_s ? std::max(1.0, std::min(site.signal_s, *limit_s / 4)) : site.signal_s);
}

std::string batch_script(const ClusterJob& job, const ClusterSite& site) {
  if (!site.container.empty() && job.launcher == "mpirun" && job.nodes > 1)
    throw Error(ErrorKind::config,
                "a container over several nodes needs --launcher srun: mpirun inside the container could not start "
                "anything on the other nodes");
  std::string summary = job.experiment + ": " + std::to_string(job.slots) + " slots on " + std::to_string(job.nodes) +
                        (job.nodes == 1 ? " node" : " nodes");
  if (job.array > 0) summary += ", " + std::to_string(job.array) + " jobs with a part each";
  std::replace(summary.begin(), summary.end(), '\n', ' ');
  return filled(kBatchTemplate, {{"options", options(job, site)},
                                 {"summary", summary},
                                 {"site", site_lines(site)},
                                 {"folder", shell_word(job.folder.string())},
                                 {"requeues", std::to_string(job.requeues)},
                                 {"lead", std::to_string(signal_lead_s(site, job.time))},
                                 {"command", command(job, site)}});
}

}  // namespace tenfold

#include "runner/commands/submit.h"

#include <chrono>
#include <ctime>
#include <fstream>
#include <optional>
#include <ostream>

#include "db/run_lock.h"
#include "db/store.h"
#include "db/store_home.h"
#include "experiments/error.h"
#include "experiments/experiment.h"
#include "experiments/host.h"
#include "experiments/problems.h"
#include "experiments/shard.h"
#include "runner/cluster_queue.h"
#include "runner/cluster_script.h"
#include "runner/job_time.h"
#include "runner/spawn.h"

namespace tenfold {
namespace {

int choose_slots(const SubmitOptions& options, const ResourcesSpec& resources) {
  const int by_gpu = options.nodes * options.gpus_per_node * resources.slots_per_gpu;
  const int slots = options.slots > 0 ? options.slots : by_gpu > 0 ? by_gpu : resources.slots;
  if (slots == 0)
    throw Error(ErrorKind::config,
                "how much to ask for? Give --gpus-per-node N, or --slots N for arrays computed on CPUs (or "
                "resources.slots in the file)");
  if (options.nodes > 1 && slots % options.nodes != 0)
    throw Error(ErrorKind::config, std::to_string(slots) + " slots cannot be shared out evenly over " +
                                       std::to_string(options.nodes) + " nodes: give --slots as a multiple");
  return slots;
}

ClusterJob describe(const SubmitOptions& options, const Experiment& experiment, const ClusterSite& site) {
  if (!options.time.empty() && options.time != "UNLIMITED" && !parse_slurm_time(options.time))
    throw Error(ErrorKind::config,
                "--time wants minutes, HH:MM:SS or D-HH:MM:SS, such as 12:00:00, not " + quote(options.time));
  ClusterJob job;
  job.experiment_file = std::filesystem::absolute(options.experiment_file).lexically_normal();
  job.db = std::filesystem::absolute(options.db).lexically_normal();
  job.overrides = options.overrides;
  job.experiment = experiment.name();
  job.nodes = options.nodes;
  job.gpus_per_node = options.gpus_per_node;
  job.slots = choose_slots(options, experiment.base().resources);
  job.time = options.time;
  job.partition = options.partition;
  job.account = options.account;
  job.launcher = options.launcher.empty() ? site.launcher : options.launcher;
  job.array = options.array;
  job.share_fits = options.share_fits;
  job.requeues = experiment.base().resources.requeues;
  job.folder = job_folder(job.db);
  job.program = program_folder() / "tenfold";
  return job;
}

// A name that no other submission has: by the time, and a number where that is not enough.
std::filesystem::path write_script(const ClusterJob& job, const std::string& text) {
  std::error_code error;
  std::filesystem::create_directories(job.folder, error);
  if (error) throw Error(ErrorKind::storage, "cannot make the folder " + job.folder.string() + ": " + error.message());
  char stamp[32];
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  std::strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%S", &local);
  std::filesystem::path file;
  for (int n = 1; n == 1 || std::filesystem::exists(file); ++n)
    file = job.folder / ("submitted-" + std::string(stamp) + (n > 1 ? "-" + std::to_string(n) : "") + ".sbatch");
  std::ofstream out(file, std::ios::binary);
  out << text << std::flush;
  if (!out) throw Error(ErrorKind::storage, "cannot write " + file.string() + ": is the disk full?");
  return file;
}

ClusterJobRow row_of(const ClusterJob& job, const std::string& number, const std::filesystem::path& script,
                     const ClusterSite& site) {
  ClusterJobRow row;
  row.job = number;
  row.experiment = job.experiment;
  row.script = script.string();
  row.submitted_from = host_name();
  row.nodes = job.nodes;
  row.gpus_per_node = job.gpus_per_node;
  row.slots = job.slots;
  row.array_tasks = job.array;
  row.time_limit = job.time;
  row.partition = job.partition.empty() ? site.partition : job.partition;
  row.account = job.account.empty() ? site.account : job.account;
  row.launcher = job.launcher;
  return row;
}

// The job is held until the store knows it, under the run lock that the job itself will want.
std::string submit_and_record(const ClusterJob& job, const std::filesystem::path& script, const ClusterSite& site) {
  std::string number;
  try {
    const RunLock lock = RunLock::acquire(job.db, "submit");
    const StoreHome home(job.db, lock);
    Store store = Store::open(home);
    number = submit_held(script);
    store.begin();
    store.add_cluster_job(row_of(job, number, script, site));
    store.commit();
    home.publish();
  } catch (...) {
    if (!number.empty()) cancel_job(number);
    throw;
  }
  release_job(number);
  return number;
}

std::string db_flag(const std::filesystem::path& db) { return db == "tenfold.db" ? "" : " --db " + db.string(); }

}  // namespace

int submit_command(const SubmitOptions& options, std::ostream& out) {
  const ClusterSite site = read_site(site_file());
  const Experiment experiment = Experiment::load(options.experiment_file, options.overrides);
  const ClusterJob job = describe(options, experiment, site);
  const std::string script = batch_script(job, site);
  if (options.dry_run) {
    out << script;
    return kExitDone;
  }
  const std::filesystem::path file = write_script(job, script);
  const std::string number = submit_and_record(job, file, site);
  out << experiment.name() << ": submitted as job " << number << ", " << job.slots << " slots on " << job.nodes
      << (job.nodes == 1 ? " node" : " nodes") << (job.gpus_per_node > 0 ? " (GPU)" : " (CPU)") << '\n'
      << "script: " << file.string() << '\n'
      << "Look: tenfold status" << db_flag(options.db) << "   Stop for good: scancel " << number << '\n';
  if (job.array > 0) {
    const std::filesystem::path shard = shard_store(options.db, {1, job.array});
    std::string all = shard.string();
    all.replace(all.rfind("shard-1-of"), 7, "shard-*");
    out << job.array << " jobs with a part and a store each. When all are through: tenfold merge "
        << options.db.string() << ' ' << all << '\n';
  }
  return kExitDone;
}

}  // namespace tenfold

#include "runner/commands/status.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "db/run_lock.h"
#include "db/status.h"
#include "experiments/error.h"
#include "runner/commands/status_cluster.h"
#include "runner/progress.h"

namespace tenfold {
namespace {

// A run's front hands the lock to its coordinator, and again when it starts one anew: for a moment nobody holds it.
constexpr int kFreeLooks = 3;
constexpr double kHandOverS = 1;
constexpr std::size_t kRunningShown = 12;

nlohmann::json number_or_null(double value) { return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(); }

nlohmann::json to_json(const StatusCounts& c) {
  return {
      {"pending", c.pending}, {"running", c.running}, {"done", c.done}, {"failed", c.failed}, {"stopped", c.stopped}};
}

nlohmann::json to_json(const ExperimentStatus& s) {
  nlohmann::json running = nlohmann::json::array();
  for (const RunningAttempt& a : s.running) {
    running.push_back({{"unit", a.unit},
                       {"id", a.id},
                       {"label", a.label},
                       {"repeat", a.repeat},
                       {"fold", a.fold},
                       {"attempt", a.number},
                       {"rank", a.rank},
                       {"slot", a.slot},
                       {"host", a.host},
                       {"device", a.device},
                       {"started_at", a.started_at},
                       {"step", a.step < 0 ? nlohmann::json() : nlohmann::json(a.step)}});
  }
  return {{"name", s.name},
          {"revision", s.revision},
          {"imported", s.imported},
          {"configurations", s.configurations},
          {"fits", to_json(s.fits)},
          {"trials", to_json(s.trials)},
          {"running", running},
          {"running_total", s.running_total},
          {"total", number_or_null(s.total)},
          {"entropy", number_or_null(s.entropy)},
          {"diversity", number_or_null(s.diversity)},
          {"loss", number_or_null(s.loss)},
          {"updates_per_s", number_or_null(s.updates_per_s)},
          {"trials_per_minute", number_or_null(s.trials_per_minute)},
          {"failed_attempts", s.failed_attempts},
          {"started_at", s.started_at},
          {"last_commit_at", s.last_commit_at}};
}

// The same line as the run's own bar, from what the store knows.
ProgressSnapshot snapshot(const ExperimentStatus& s) {
  ProgressSnapshot p;
  p.fits_total = s.fits.total();
  p.fits_done = s.fits.done;
  p.trials_total = s.trials.total();
  p.trials_done = s.trials.done;
  p.trials_failed = s.trials.failed;
  p.arrays_running = s.running_total;
  p.updates_per_s = s.updates_per_s;
  p.total = s.total;
  p.entropy = s.entropy;
  p.diversity = s.diversity;
  p.elapsed_s = std::nan("");
  const auto left = static_cast<double>(s.trials.total() - s.trials.done - s.trials.failed);
  if (s.running_total > 0 && s.trials_per_minute > 0) p.eta_s = left / s.trials_per_minute * 60;
  return p;
}

void print(const ExperimentStatus& s, std::ostream& out) {
  out << s.name << ": " << progress_line(snapshot(s), 100000) << '\n';
  if (s.imported) {
    out << "  imported: " << s.configurations << " configurations\n";
    return;
  }
  out << "  trials: " << s.trials.done << " done, " << s.trials.running << " running, " << s.trials.pending
      << " pending, " << s.trials.stopped << " stopped, " << s.trials.failed << " failed";
  if (s.failed_attempts > 0) out << "; " << s.failed_attempts << " failed attempts";
  out << '\n';
  if (!s.started_at.empty()) out << "  started " << s.started_at << ", last commit " << s.last_commit_at << '\n';
  for (std::size_t i = 0; i < s.running.size() && i < kRunningShown; ++i) {
    const RunningAttempt& a = s.running[i];
    out << "  " << a.unit << ' ' << a.id << (a.label.empty() ? "" : " (" + a.label + ")") << " fold " << a.fold;
    if (a.repeat > 0) out << " repeat " << a.repeat;
    out << ": attempt " << a.number << " on " << a.host << ' ' << a.device << ", rank " << a.rank;
    if (a.step >= 0) out << ", step " << a.step;
    out << '\n';
  }
  const auto shown = static_cast<std::int64_t>(std::min(s.running.size(), kRunningShown));
  if (s.running_total > shown) out << "  and " << s.running_total - shown << " more running\n";
}

nlohmann::json to_json(const std::vector<ExperimentStatus>& experiments, const ClusterStatus& cluster) {
  nlohmann::json list = nlohmann::json::array();
  for (const ExperimentStatus& experiment : experiments) {
    list.push_back(to_json(experiment));
    list.back()["cluster_jobs"] = to_json(cluster, experiment.name);
  }
  return list;
}

// Submitted, not begun: the store knows them by their jobs alone.
void add_waiting(std::vector<ExperimentStatus>& experiments, const ClusterStatus& cluster) {
  for (const ClusterJobRow& job : cluster.jobs) {
    const auto is_its = [&](const ExperimentStatus& known) { return known.name == job.experiment; };
    if (std::any_of(experiments.begin(), experiments.end(), is_its)) continue;
    experiments.emplace_back().name = job.experiment;
  }
}

// Returns whether a run holds the store.
bool look(const StatusOptions& options, std::ostream& out) {
  // Asked before the store is read: what the run wrote until it let go is in the last look.
  const std::optional<std::string> holder = run_lock_holder(options.db);
  std::vector<ExperimentStatus> experiments = read_status(options.db, options.experiment);
  const ClusterStatus cluster = look_at_cluster(options.db);
  if (options.format == "json") {
    if (!options.experiment) add_waiting(experiments, cluster);
    out << to_json(experiments, cluster).dump(options.watch ? -1 : 2) << '\n';  // watched: one line a look
  } else {
    std::int64_t running = 0;
    for (const ExperimentStatus& experiment : experiments) {
      running += experiment.running_total;
      print(experiment, out);
    }
    if (experiments.empty()) out << options.db.string() << " holds no experiment yet\n";
    out << to_text(cluster);
    if (holder) {
      out << "run by " << *holder << '\n';
    } else if (running > 0) {
      out << "no run holds the store now: what is shown as running was cut off, and the next run takes it up\n";
    }
  }
  out.flush();
  return holder.has_value();
}

}  // namespace

int status_command(const StatusOptions& options, std::ostream& out) {
  if (!options.watch) {
    look(options, out);
    return kExitDone;
  }
  const bool terminal = options.format == "text" && isatty(STDOUT_FILENO) == 1;
  for (int free = 0; free < kFreeLooks && out;) {
    if (terminal) out << "\x1b[H\x1b[2J";
    free = look(options, out) ? 0 : free + 1;
    const double pause_s = free > 0 ? std::max(options.interval_s, kHandOverS) : options.interval_s;
    if (free < kFreeLooks) std::this_thread::sleep_for(std::chrono::duration<double>(pause_s));
  }
  return kExitDone;
}

}  // namespace tenfold

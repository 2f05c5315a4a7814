#include "runner/front_report.h"

#include <signal.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <iostream>

#include "db/file_system.h"
#include "db/results_table.h"

namespace tenfold {
namespace {

std::string count(std::int64_t n, const std::string& what) {
  return std::to_string(n) + " " + what + (n == 1 ? "" : "s");
}

std::string duration(double seconds) {
  char text[48];
  if (seconds < 100)
    std::snprintf(text, sizeof text, "%.1f s", seconds);
  else if (seconds < 7200)
    std::snprintf(text, sizeof text, "%.0f min %02.0f s", std::floor(seconds / 60), std::floor(std::fmod(seconds, 60)));
  else
    std::snprintf(text, sizeof text, "%.0f h %02.0f min", std::floor(seconds / 3600),
                  std::floor(std::fmod(seconds, 3600) / 60));
  return text;
}

// What the user adds to other commands to reach this store.
std::string db_flag(const RunOptions& options) {
  return options.db == "tenfold.db" ? "" : " --db " + options.db.string();
}

std::int64_t with_status(const std::vector<UnitState>& units, TrialStatus status) {
  return std::count_if(units.begin(), units.end(), [&](const UnitState& u) { return u.status == status; });
}

void print_where_to_look(const RunOptions& options, const std::string& name) {
  std::cout << "Look further: tenfold report " << name << db_flag(options) << "   or   tenfold query"
            << db_flag(options) << " \"SELECT * FROM leaderboard\"\n";
}

}  // namespace

bool everything_is_done(const RegisteredPlan& registered) {
  return with_status(registered.trials, TrialStatus::done) == static_cast<std::int64_t>(registered.trials.size());
}

std::string describe_start(const PreparedExperiment& prepared, const RegisteredPlan& registered,
                           const RunOptions& options, const HostLayout& layout) {
  const Plan& plan = prepared.plan;
  const auto hosts = std::count_if(layout.hosts.begin(), layout.hosts.end(), [](const Host& h) { return h.slots > 0; });
  std::string text = prepared.experiment.name() + ": " +
                     count(static_cast<std::int64_t>(prepared.experiment.configurations().size()), "configuration") +
                     ", " + count(static_cast<std::int64_t>(plan.trials.size()), "trial") + " from " +
                     count(static_cast<std::int64_t>(plan.fits.size()), "fit") + ", on " +
                     count(layout.choice.slots, "slot") + (layout.choice.gpu ? " (GPU)" : " (CPU)") +
                     (layout.several() ? " of " + count(hosts, "host") : "") + "; results in " + options.db.string() +
                     (is_store_published(options.db) ? ", copied there every few seconds\n" : "\n");
  if (registered.fits_apart > 0)
    text += "Computed for this experiment alone: " + count(registered.fits_apart, "fit") +
            " that another one has stopped, or gone on with at a lower rate, because values were not finite; here "
            "on_nonfinite is " +
            prepared.experiment.base().on_nonfinite.policy + ".\n";
  if (!registered.existed) return text;
  const std::int64_t done = with_status(registered.trials, TrialStatus::done);
  const std::int64_t failed = with_status(registered.trials, TrialStatus::failed);
  for (const auto& [what, hidden] : registered.changes)
    if (hidden) text += static_cast<char>(std::toupper(static_cast<unsigned char>(what[0]))) + what.substr(1) + ".\n";
  if (!registered.changes.empty()) {
    text += "The experiment has changed: " + count(registered.new_configurations, "configuration") +
            (registered.new_configurations == 1 ? " is" : " are") + " new";
    if (registered.retired_configurations > 0)
      text += ", " + std::to_string(registered.retired_configurations) +
              " of earlier versions no longer run (kept in the store)";
    text += "; ";
  } else {
    text += "Going on: ";
  }
  text += std::to_string(done) + " of " + count(static_cast<std::int64_t>(registered.trials.size()), "trial") +
          " done already";
  if (failed > 0) text += ", " + std::to_string(failed) + " that failed before tried again";
  return text + "\n";
}

int report_end(const RunOptions& options, const RunOutcome& outcome, std::optional<int> signal,
               const std::string& experiment_name) {
  if (outcome.error) throw Error(*outcome.error, outcome.message);
  if (outcome.drained) {
    std::cerr << "Stopped with " << outcome.trials_done << " of " << count(outcome.trials, "trial")
              << " done. Everything so far is in " << options.db.string() << ": run the same command again to go on.\n";
    return signal == SIGINT ? kExitInterrupted : kExitDrained;
  }
  if (options.empty_trials) {
    std::printf("%lld empty trials in %.3f s: %.0f trials/s\n", static_cast<long long>(outcome.trials_done),
                outcome.elapsed_s, static_cast<double>(outcome.trials_done) / std::max(outcome.elapsed_s, 1e-9));
    std::fflush(stdout);
  } else if (!options.quiet) {
    std::cout << "\n" << results_table(options.db, experiment_name) << "\n";
    std::cout << count(outcome.trials_done, "trial") << " done in " << duration(outcome.elapsed_s) << ". ";
    print_where_to_look(options, experiment_name);
    std::cout.flush();
  }
  if (outcome.trials_failed == 0) return kExitDone;
  std::cerr << outcome.trials_failed << " of " << count(outcome.trials, "trial") << " failed. Why: tenfold query"
            << db_flag(options)
            << " \"SELECT trial, reason FROM attempt WHERE outcome = 'failed'\". The same command tries them again.\n";
  return kExitSomeTrialsFailed;
}

void report_nothing_to_do(const PreparedExperiment& prepared, const RunOptions& options) {
  if (options.quiet) return;
  std::cout << prepared.experiment.name() << ": nothing to do, all "
            << count(static_cast<std::int64_t>(prepared.plan.trials.size()), "trial") << " are done and in "
            << options.db.string() << "\n\n"
            << results_table(options.db, prepared.experiment.name()) << "\n";
  print_where_to_look(options, prepared.experiment.name());
  std::cout.flush();
}

}  // namespace tenfold

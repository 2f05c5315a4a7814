#include "db/plan_changes.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>

#include "db/sqlite.h"
#include "experiments/identity.h"

namespace tenfold {
namespace {

constexpr std::size_t kShownHex = 12;

std::string short_names(const std::set<std::string>& fingerprints) {
  std::string text;
  for (const std::string& fingerprint : fingerprints)
    text += (text.empty() ? "" : ", ") + fingerprint.substr(0, kShownHex);
  return text;
}

std::set<std::string> stored_fingerprints(Connection& connection, std::int64_t experiment, std::int64_t revision) {
  Statement select(connection,
                   "SELECT DISTINCT d.fingerprint FROM trial t JOIN fold f ON f.id = t.split JOIN dataset d ON "
                   "d.id = f.dataset WHERE t.experiment = ?1 AND t.revision = ?2");
  select.bind(1, experiment).bind(2, revision);
  std::set<std::string> found;
  while (select.next()) found.insert(select.text(0));
  return found;
}

// Also when only the number of folds or repeats is another: the configurations may then be the same.
std::string change_of_the_file(Connection& connection, std::int64_t experiment, std::int64_t revision, const Plan& plan,
                               const std::vector<std::string>& identities) {
  Statement select(connection, "SELECT identity FROM configuration WHERE experiment = ?1 AND revision = ?2");
  select.bind(1, experiment).bind(2, revision);
  std::set<std::string> before;
  while (select.next()) before.insert(select.text(0));
  Statement count(connection, "SELECT count(*) FROM trial WHERE experiment = ?1 AND revision = ?2");
  count.bind(1, experiment).bind(2, revision).next();
  const std::set<std::string> now(identities.begin(), identities.end());
  const auto missing_in = [](const std::set<std::string>& some, const std::set<std::string>& others) {
    return std::to_string(
        std::ranges::count_if(some, [&](const std::string& identity) { return !others.contains(identity); }));
  };
  return "the experiment's file or settings have changed: configurations that are new: " + missing_in(now, before) +
         ", that no longer run: " + missing_in(before, now) + "; trials: " + std::to_string(plan.trials.size()) +
         ", before: " + std::to_string(count.integer(0)) + "; earlier results are kept";
}

}  // namespace

// A configuration is known by its first trial, whose identity covers everything that its results depend on.
// Two points of a sweep that resolve to the same values get numbers.
std::vector<std::string> configuration_identities(const Experiment& experiment, const Plan& plan) {
  std::vector<std::string> identities(experiment.configurations().size());
  for (const TrialUnit& trial : plan.trials)
    if (identities[trial.configuration].empty()) identities[trial.configuration] = trial.identity.hex();
  std::unordered_map<std::string, int> seen;
  for (std::string& identity : identities)
    if (const int count = ++seen[identity]; count > 1) identity.append(1, '#').append(std::to_string(count));
  return identities;
}

std::vector<PlanChange> plan_changes(Connection& connection, std::int64_t experiment, std::int64_t revision,
                                     const Experiment& file, const Plan& plan,
                                     const std::vector<std::string>& identities) {
  std::unordered_map<std::string, std::string> stored;  // all values -> identity
  Statement select(connection,
                   "SELECT specification, identity FROM configuration WHERE experiment = ?1 AND revision = ?2 AND "
                   "specification IS NOT NULL");
  select.bind(1, experiment).bind(2, revision);
  while (select.next()) stored.emplace(select.text(0), select.text(1));
  bool other_results = false;
  for (std::size_t i = 0; i < file.configurations().size() && !other_results; ++i) {
    const auto same = stored.find(to_json(file.resolve(i)).dump());
    other_results = same != stored.end() && same->second != identities[i];
  }
  if (!other_results) return {{change_of_the_file(connection, experiment, revision, plan, identities)}};
  const std::set<std::string> before = stored_fingerprints(connection, experiment, revision);
  std::set<std::string> now;
  for (const DatasetSummary& data : plan.datasets) now.insert(data.fingerprint.hex());
  if (before != now)
    return {{"the data have changed since the last run (fingerprint " + short_names(before) + " became " +
                 short_names(now) + "); results on the earlier data are kept, and not mixed with the new ones",
             true}};
  return {{"this tenfold computes other results than the one that ran before (results version " +
               std::to_string(kResultsVersion) + "); the earlier results are kept, and not mixed with the new ones",
           true}};
}

}  // namespace tenfold

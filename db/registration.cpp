#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <utility>

#include "db/nonfinite_fits.h"
#include "db/plan_changes.h"
#include "db/store.h"
#include "db/store_impl.h"
#include "experiments/identity.h"
#include "experiments/shard.h"

// register_plan: what a plan asks for against what the store has.
namespace tenfold {
namespace {

TrialStatus parse_status(const std::string& text) {
  for (const TrialStatus status :
       {TrialStatus::pending, TrialStatus::running, TrialStatus::done, TrialStatus::failed, TrialStatus::stopped})
    if (text == to_string(status)) return status;
  throw Error(ErrorKind::storage, "the store holds the unknown status '" + text + "'");
}

struct KnownUnit {
  RowId id = 0;
  TrialStatus status = TrialStatus::pending;
  RowId fit = 0;              // trials
  std::int64_t revision = 0;  // trials
};

struct KnownConfiguration {
  RowId id = 0;
  std::int64_t revision = 0;
};

// Derived from the plan's configurations once, as resolving one costs more than inserting its trials.
struct ConfigurationKeys {
  std::string fit_array_key, trial_array_key;
  std::uint64_t seed = 0;
};

// Keys are compared, never read: a few hundred bytes would be most of a trial's row.
std::string short_key(const std::string& array_key) { return sha256(array_key).hex().substr(0, 16); }

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t size : shape) {
    if (!text.empty()) text += 'x';
    text += std::to_string(size);
  }
  return text;
}

class Registration {
 public:
  Registration(Store::Impl& impl, const Experiment& experiment, const Plan& plan,
               std::span<const std::int64_t> parameters, std::span<const std::string> identities)
      : impl_(impl),
        db_(impl.connection),
        experiment_(experiment),
        plan_(plan),
        parameters_(parameters),
        identities_(identities.begin(), identities.end()) {
    if (identities_.empty()) identities_ = configuration_identities(experiment.configurations().size(), plan);
  }

  RegisteredPlan run();

 private:
  void register_experiment();
  void load_known();
  bool changed() const;
  void register_datasets();
  void register_configurations();
  void register_folds();
  void register_fits();
  void register_trials();
  void reopen_fits();
  void load_history();

  Store::Impl& impl_;
  Connection& db_;
  const Experiment& experiment_;
  const Plan& plan_;
  const std::span<const std::int64_t> parameters_;  // by configuration; empty: unknown
  RegisteredPlan result_;
  std::vector<std::string> identities_;
  std::unordered_map<std::string, KnownConfiguration> known_configurations_;
  std::map<std::pair<RowId, Digest>, KnownUnit> known_trials_;
  std::int64_t current_trials_ = 0;
  std::vector<RowId> configuration_ids_;
  std::vector<ConfigurationKeys> keys_;
  std::vector<RowId> dataset_ids_;
  std::vector<std::vector<RowId>> fold_ids_;  // by dataset, then split
};

RegisteredPlan Registration::run() {
  impl_.end_what_a_kill_left();
  register_experiment();
  load_known();
  if (!result_.existed || changed()) {
    if (result_.existed)
      result_.changes = plan_changes(db_, result_.experiment, result_.revision, experiment_, plan_, identities_);
    ++result_.revision;
    db_.execute("UPDATE experiment SET revision = " + std::to_string(result_.revision) +
                " WHERE id = " + std::to_string(result_.experiment));
  }
  Statement revision(db_,
                     "INSERT INTO experiment_revision(experiment, revision, created_at, file, text, results_version) "
                     "VALUES(?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET file = excluded.file, "
                     "text = excluded.text, results_version = excluded.results_version");
  revision.bind(1, result_.experiment).bind(2, result_.revision).bind(3, impl_.now);
  revision.bind(4, experiment_.file()).bind(5, experiment_.text()).bind(6, std::int64_t{kResultsVersion}).run();
  register_datasets();
  register_configurations();
  register_folds();
  register_fits();
  register_trials();
  reopen_fits();
  load_history();
  return std::move(result_);
}

void Registration::register_experiment() {
  Statement find(db_, "SELECT id, revision, origin FROM experiment WHERE name = ?1");
  find.bind(1, experiment_.name());
  result_.existed = find.next();
  if (result_.existed) {
    if (find.text(2) != "run")
      throw Error(ErrorKind::storage, impl_.connection.file().string() + ": '" + experiment_.name() +
                                          "' holds imported losses; give this experiment another name");
    result_.experiment = find.integer(0);
    result_.revision = find.integer(1);
    find.reset();
    Statement touch(db_, "UPDATE experiment SET updated_at = ?2 WHERE id = ?1");
    touch.bind(1, result_.experiment).bind(2, impl_.now).run();
    return;
  }
  Statement insert(db_,
                   "INSERT INTO experiment(name, revision, origin, created_at, updated_at) "
                   "VALUES(?1, 0, 'run', ?2, ?2)");
  insert.bind(1, experiment_.name()).bind(2, impl_.now).run();
  result_.experiment = db_.last_insert_id();
}

void Registration::load_known() {
  if (!result_.existed) return;
  Statement configurations(db_, "SELECT identity, id, revision FROM configuration WHERE experiment = ?1");
  configurations.bind(1, result_.experiment);
  while (configurations.next())
    known_configurations_[configurations.text(0)] = {configurations.integer(1), configurations.integer(2)};
  Statement trials(db_, "SELECT configuration, identity, id, status, fit, revision FROM trial WHERE experiment = ?1");
  trials.bind(1, result_.experiment);
  while (trials.next()) {
    current_trials_ += trials.integer(5) == result_.revision ? 1 : 0;
    known_trials_[{trials.integer(0), Digest::from_hex(trials.text(1))}] = {
        trials.integer(2), parse_status(trials.text(3)), trials.integer(4), trials.integer(5)};
  }
}

// Whether the file asks for other trials than the store's current revision.
bool Registration::changed() const {
  if (static_cast<std::int64_t>(plan_.trials.size()) != current_trials_) return true;
  return !std::all_of(plan_.trials.begin(), plan_.trials.end(), [&](const TrialUnit& trial) {
    const auto configuration = known_configurations_.find(identities_[trial.configuration]);
    if (configuration == known_configurations_.end()) return false;
    const auto known = known_trials_.find({configuration->second.id, trial.identity});
    return known != known_trials_.end() && known->second.revision == result_.revision;
  });
}

void Registration::register_datasets() {
  Statement insert(
      db_,
      "INSERT INTO dataset(fingerprint, samples, sample_shape, classes, kind, label_kind, steps, shortest, "
      "longest, smallest_value, largest_value) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) "
      "ON CONFLICT(fingerprint) DO UPDATE SET (kind, label_kind, steps, shortest, longest, smallest_value, "
      "largest_value) = (excluded.kind, excluded.label_kind, excluded.steps, excluded.shortest, "
      "excluded.longest, excluded.smallest_value, excluded.largest_value) WHERE kind IS NULL");
  Statement find(db_, "SELECT id FROM dataset WHERE fingerprint = ?1");
  for (const DatasetSummary& data : plan_.datasets) {
    const std::string fingerprint = data.fingerprint.hex();
    insert.bind(1, fingerprint).bind(2, data.samples).bind(3, shape_text(data.sample_shape));
    insert.bind(4, std::int64_t{data.classes}).bind(5, to_string(data.kind)).bind(6, to_string(data.label_kind));
    insert.bind(7, data.kind == SampleKind::fixed ? data.samples : data.steps).bind(8, data.shortest);
    insert.bind(9, data.longest).bind(10, data.smallest_value).bind(11, data.largest_value).run();
    find.bind(1, fingerprint).next();
    dataset_ids_.push_back(find.integer(0));
    find.reset();
  }
}

void Registration::register_configurations() {
  Statement insert(db_,
                   "INSERT INTO configuration(experiment, label, revision, position, method, identity, specification, "
                   "parameters) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
  Statement update(db_,
                   "UPDATE configuration SET label = ?2, revision = ?3, position = ?4, "
                   "parameters = coalesce(?5, parameters) WHERE id = ?1");
  Statement clear(db_, "DELETE FROM configuration_parameter WHERE configuration = ?1");
  Statement parameter(db_,
                      "INSERT OR REPLACE INTO configuration_parameter(configuration, key, value) VALUES(?1, ?2, ?3)");
  const std::vector<Configuration>& configurations = experiment_.configurations();
  for (std::size_t i = 0; i < configurations.size(); ++i) {
    const ExperimentSpec spec = experiment_.resolve(i);
    const DatasetSummary& data = plan_.datasets[plan_.dataset_of[i]];
    keys_.push_back({short_key(fit_array_key(spec, data)), short_key(trial_array_key(spec, data)), spec.seed});
    const auto known = known_configurations_.find(identities_[i]);
    const auto parameters = i < parameters_.size() ? std::optional(parameters_[i]) : std::nullopt;
    RowId id = 0;
    if (known != known_configurations_.end()) {
      id = known->second.id;
      update.bind(1, id).bind(2, configurations[i].label).bind(3, result_.revision);
      update.bind(4, static_cast<std::int64_t>(i)).bind(5, parameters).run();
      clear.bind(1, id).run();
    } else {
      insert.bind(1, result_.experiment).bind(2, configurations[i].label).bind(3, result_.revision);
      insert.bind(4, static_cast<std::int64_t>(i)).bind(5, spec.ttt.method).bind(6, identities_[i]);
      insert.bind(7, to_json(spec).dump()).bind(8, parameters).run();
      id = db_.last_insert_id();
      ++result_.new_configurations;
    }
    for (const auto& [key, value] : configurations[i].parameters)
      parameter.bind(1, id).bind(2, key).bind(3, value).run();
    configuration_ids_.push_back(id);
  }
  Statement retired(db_, "SELECT count(*) FROM configuration WHERE experiment = ?1 AND revision < ?2");
  retired.bind(1, result_.experiment).bind(2, result_.revision).next();
  result_.retired_configurations = retired.integer(0);
}

void Registration::register_folds() {
  Statement insert(db_,
                   "INSERT INTO fold(experiment, repeat, fold, split_hash, dataset, train_n, validation_n, test_n) "
                   "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING");
  // Data that were changed have the same split where classes and groups are the same: the row is one per content.
  Statement find(db_,
                 "SELECT id FROM fold WHERE experiment = ?1 AND repeat = ?2 AND fold = ?3 AND split_hash = ?4 "
                 "AND dataset = ?5");
  for (std::size_t d = 0; d < plan_.datasets.size(); ++d) {
    std::vector<RowId>& ids = fold_ids_.emplace_back();
    for (const SplitSummary& split : plan_.datasets[d].splits) {
      const std::string hash = split.hash.hex();
      for (Statement* statement : {&insert, &find})
        statement->bind(1, result_.experiment)
            .bind(2, std::int64_t{split.repeat})
            .bind(3, std::int64_t{split.fold})
            .bind(4, hash)
            .bind(5, dataset_ids_[d]);
      insert.bind(6, split.train_n).bind(7, split.validation_n).bind(8, split.test_n).run();
      find.next();
      ids.push_back(find.integer(0));
      find.reset();
    }
  }
}

void Registration::register_fits() {
  Statement find(db_, "SELECT id, status FROM fit WHERE identity = ?1");
  Statement insert(db_,
                   "INSERT INTO fit(identity, status, repeat, fold, split_hash, seed, array_key) "
                   "VALUES(?1, 'pending', ?2, ?3, ?4, ?5, ?6)");
  const NonFiniteFits known(db_, experiment_.base().on_nonfinite);
  result_.fits.reserve(plan_.fits.size());
  for (const FitUnit& fit : plan_.fits) {
    UnitState& state = result_.fits.emplace_back();
    const std::string identity = known.identity_of(fit.identity);
    if (find.bind(1, identity).next()) {
      state.id = find.integer(0);
      state.status = parse_status(find.text(1));
      find.reset();
      continue;
    }
    const SplitSummary& split = plan_.split(fit);
    const ConfigurationKeys& keys = keys_[fit.configuration];
    insert.bind(1, identity).bind(2, std::int64_t{split.repeat}).bind(3, std::int64_t{split.fold});
    insert.bind(4, split.hash.hex()).bind(5, static_cast<std::int64_t>(keys.seed)).bind(6, keys.fit_array_key).run();
    state.id = db_.last_insert_id();
    if (identity != fit.identity.hex()) ++result_.fits_apart;
  }
}

void Registration::register_trials() {
  Statement insert(db_,
                   "INSERT INTO trial(experiment, configuration, repeat, fold, split, fit, identity, status, seed, "
                   "revision, array_key) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, 'pending', ?8, ?9, ?10)");
  Statement update(db_, "UPDATE trial SET revision = ?2, fit = ?3 WHERE id = ?1");
  // Whoever starts the run again may have removed the cause: a failed trial is open once more, so its fit's trained
  // parameters are kept for it. The caller still learns that it had failed.
  Statement reopen(db_, "UPDATE trial SET status = 'pending' WHERE id = ?1 AND status = 'failed'");
  result_.trials.reserve(plan_.trials.size());
  for (const TrialUnit& trial : plan_.trials) {
    UnitState& state = result_.trials.emplace_back();
    const RowId configuration = configuration_ids_[trial.configuration];
    const RowId fit = result_.fits[trial.fit].id;
    if (const auto known = known_trials_.find({configuration, trial.identity}); known != known_trials_.end()) {
      state.id = known->second.id;
      state.status = known->second.status;
      // What is done stays with the fit that it came from.
      const RowId kept_fit = state.status == TrialStatus::done ? known->second.fit : fit;
      if (known->second.revision != result_.revision || known->second.fit != kept_fit)
        update.bind(1, state.id).bind(2, result_.revision).bind(3, kept_fit).run();
      if (state.status == TrialStatus::failed) reopen.bind(1, state.id).run();
      continue;
    }
    const SplitSummary& split = plan_.split(trial);
    const ConfigurationKeys& keys = keys_[trial.configuration];
    insert.bind(1, result_.experiment).bind(2, configuration);
    insert.bind(3, std::int64_t{split.repeat}).bind(4, std::int64_t{split.fold});
    insert.bind(5, fold_ids_[plan_.dataset_of[trial.configuration]][trial.split]).bind(6, fit);
    insert.bind(7, trial.identity.hex()).bind(8, static_cast<std::int64_t>(keys.seed));
    insert.bind(9, result_.revision).bind(10, keys.trial_array_key).run();
    state.id = db_.last_insert_id();
  }
}

// A done fit whose trained parameters were given up, because no trial needed them any more, is wanted again by a
// new trial: it has to be computed once more.
void Registration::reopen_fits() {
  std::vector<bool> wanted(plan_.fits.size(), false);
  for (std::size_t i = 0; i < plan_.trials.size(); ++i)
    if (result_.trials[i].status != TrialStatus::done) wanted[plan_.trials[i].fit] = true;
  Statement last_checkpoint(db_, "SELECT max(step), min(history) FROM checkpoint WHERE fit = ?1");
  Statement last_step(db_, "SELECT max(step) FROM train_step WHERE fit = ?1");
  // One that was put back has no row of the step that spoiled it: its history may be as late as its last row, and has
  // the parameters that it was put back from.
  Statement put_back(db_, "SELECT stopped_nonfinite FROM fit WHERE id = ?1");
  Statement reopen(db_, "UPDATE fit SET status = 'pending' WHERE id = ?1");
  for (std::size_t i = 0; i < plan_.fits.size(); ++i) {
    UnitState& fit = result_.fits[i];
    if (!wanted[i] || fit.status != TrialStatus::done) continue;
    last_checkpoint.bind(1, fit.id).next();
    const bool any = !last_checkpoint.is_null(0);
    const bool history_only = last_checkpoint.integer(1) != 0;
    const std::int64_t step = last_checkpoint.integer(0);
    last_checkpoint.reset();
    last_step.bind(1, fit.id).next();
    put_back.bind(1, fit.id).next();
    const std::int64_t last = last_step.integer(0) + put_back.integer(0);
    const bool is_last = any && (!history_only || step >= last);
    last_step.reset();
    put_back.reset();
    if (is_last) continue;
    reopen.bind(1, fit.id).run();
    fit.status = TrialStatus::pending;
  }
}

void Registration::load_history() {
  for (const UnitKind kind : {UnitKind::fit, UnitKind::trial}) {
    const std::string table = kind == UnitKind::fit ? "fit" : "trial";
    std::vector<UnitState>& units = kind == UnitKind::fit ? result_.fits : result_.trials;
    std::unordered_map<RowId, std::int32_t> attempts;
    std::unordered_map<std::string, double> wall_s;
    std::unordered_map<RowId, bool> has_checkpoints;
    Statement count(db_, "SELECT " + table + ", count(*) FROM attempt WHERE " + table + " IS NOT NULL GROUP BY 1");
    while (count.next()) attempts[count.integer(0)] = static_cast<std::int32_t>(count.integer(1));
    Statement checkpointed(db_, "SELECT DISTINCT " + table + " FROM checkpoint WHERE " + table + " IS NOT NULL");
    while (checkpointed.next()) has_checkpoints[checkpointed.integer(0)] = true;
    if (!attempts.empty()) {
      // Attempts that began in the middle would make the mean too small.
      Statement mean(db_, "SELECT u.array_key, avg(a.wall_s) FROM attempt a JOIN " + table + " u ON u.id = a." + table +
                              " WHERE a.outcome = 'done' AND a.resumed_from_step IS NULL AND u.array_key IS NOT NULL "
                              "GROUP BY 1");
      while (mean.next()) wall_s[mean.text(0)] = std::isnan(mean.real(1)) ? 0 : mean.real(1);
    }
    for (std::size_t i = 0; i < units.size(); ++i) {
      UnitState& unit = units[i];
      if (const auto found = attempts.find(unit.id); found != attempts.end()) unit.attempts = found->second;
      if (has_checkpoints.contains(unit.id)) unit.checkpoints = impl_.stored_checkpoints(kind, unit.id);
      if (wall_s.empty()) continue;
      const ConfigurationKeys& keys =
          keys_[kind == UnitKind::fit ? plan_.fits[i].configuration : plan_.trials[i].configuration];
      const auto expected = wall_s.find(kind == UnitKind::fit ? keys.fit_array_key : keys.trial_array_key);
      if (expected != wall_s.end()) unit.expected_wall_s = expected->second;
    }
  }
}

}  // namespace

RegisteredPlan Store::register_plan(const Experiment& experiment, const Plan& plan,
                                    std::span<const std::int64_t> parameters, std::span<const std::string> identities) {
  begin();
  try {
    RegisteredPlan registered = Registration(*impl_, experiment, plan, parameters, identities).run();
    impl_->load_rates(registered);
    for (const PlanChange& change : registered.changes) add_event(std::nullopt, "experiment_changed", change.what);
    commit();
    return registered;
  } catch (...) {
    rollback();
    throw;
  }
}

}  // namespace tenfold

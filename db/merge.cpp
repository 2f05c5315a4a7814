#include "db/merge.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>

#include "db/merge_checkpoints.h"
#include "db/merge_source.h"
#include "db/merge_tables.h"
#include "db/run_lock.h"
#include "db/store.h"
#include "db/store_home.h"
#include "db/store_impl.h"

namespace tenfold {
namespace {

constexpr std::size_t kMostNamed = 10;

// What is to be merged of the shard: the trials of its experiments' current revisions, and their fits. Ids of both
// stores beside each other, as temporary tables.
constexpr const char* kMatch = R"sql(
CREATE TEMP TABLE wanted_experiment AS
  SELECT s.id AS old, m.id AS new, s.revision AS old_revision, m.revision AS new_revision, s.name AS name
  FROM shard.experiment s JOIN main.experiment m ON m.name = s.name WHERE s.origin = 'run';
CREATE TEMP TABLE wanted_trial AS
  SELECT t.id AS old, t.fit AS fit, t.identity AS identity, t.configuration AS configuration, t.split AS split,
    w.new AS experiment, w.new_revision AS revision
  FROM shard.trial t JOIN wanted_experiment w ON w.old = t.experiment AND w.old_revision = t.revision;
INSERT OR IGNORE INTO main.metric SELECT * FROM shard.metric;
)sql";

constexpr const char* kMatchFolds = R"sql(
CREATE TEMP TABLE same_dataset AS
  SELECT s.id AS old, m.id AS new FROM shard.dataset s JOIN main.dataset m ON m.fingerprint = s.fingerprint;
INSERT OR IGNORE INTO main.fold(experiment, repeat, fold, split_hash, dataset, train_n, validation_n, test_n)
  SELECT w.new, f.repeat, f.fold, f.split_hash, d.new, f.train_n, f.validation_n, f.test_n
  FROM shard.fold f JOIN wanted_experiment w ON w.old = f.experiment JOIN same_dataset d ON d.old = f.dataset;
CREATE TEMP TABLE same_fold AS
  SELECT f.id AS old, m.id AS new
  FROM shard.fold f JOIN wanted_experiment w ON w.old = f.experiment JOIN same_dataset d ON d.old = f.dataset
    JOIN main.fold m ON m.experiment = w.new AND m.repeat = f.repeat AND m.fold = f.fold
      AND m.split_hash = f.split_hash AND m.dataset = d.new;
CREATE TEMP TABLE same_configuration AS
  SELECT s.id AS old, m.id AS new FROM shard.configuration s JOIN wanted_experiment w ON w.old = s.experiment
    JOIN main.configuration m ON m.experiment = w.new AND m.identity = s.identity;
INSERT OR IGNORE INTO main.configuration_parameter(configuration, key, value)
  SELECT c.new, p.key, p.value FROM shard.configuration_parameter p JOIN same_configuration c ON c.old = p.configuration;
)sql";

// Every unit of the shard with its namesake here; both: done in both stores; take: what the shard has and we have not.
// A failure is taken where nothing was tried here.
std::string match_units(const std::string& unit, const std::string& pairs) {
  return "CREATE TEMP TABLE pair_" + unit + " AS " + pairs + ";\nCREATE TEMP TABLE both_" + unit +
         " AS SELECT p.old, p.new FROM pair_" + unit + " p JOIN shard." + unit + " s ON s.id = p.old JOIN main." +
         unit + " m ON m.id = p.new WHERE s.status = 'done' AND m.status = 'done';\nCREATE TEMP TABLE take_" + unit +
         " AS SELECT p.old, p.new FROM pair_" + unit + " p JOIN shard." + unit + " s ON s.id = p.old JOIN main." +
         unit +
         " m ON m.id = p.new WHERE (s.status = 'done' AND m.status <> 'done') OR (s.status = 'failed' AND m.status = "
         "'pending' AND NOT EXISTS (SELECT 1 FROM main.attempt a WHERE a." +
         unit + " = p.new));\n";
}

class Merger {
 public:
  Merger(Store& store, Connection& db, std::filesystem::path shard)
      : store_(store), db_(db), out_(store.file()), shard_(std::move(shard)) {}

  void run(MergeSummary& summary) {
    find_experiments();
    db_.execute(kMatch);
    copy_missing("dataset", "fingerprint IS NOT NULL");
    check_same_experiments();
    match_configurations();
    db_.execute(kMatchFolds);
    match_fits();
    match_trials();
    refuse_conflicts();
    leave_out_fits_still_lost(db_, checkpoint_folder(shard_), checkpoint_folder(out_));
    summary.trials_known += count("both_trial");
    summary.fits_taken += count("take_fit");
    summary.trials_taken += count("take_trial");
    copy_files(summary);
    take();
    for (const std::string& text : reopen_fits_without_parameters(db_)) tell(summary, "fit_reopened", text);
  }

 private:
  std::int64_t count(const std::string& table) { return db_.integer(("SELECT count(*) FROM temp." + table).c_str()); }
  [[noreturn]] void refuse(const std::string& why) const {
    throw Error(ErrorKind::storage, shard_.string() + " cannot be merged into " + out_.string() + ": " + why);
  }

  // An experiment that is new here comes as the shard has it.
  void find_experiments() {
    if (db_.integer("SELECT count(*) FROM shard.experiment WHERE origin = 'run'") == 0)
      refuse("it holds no experiment that was run");
    Statement imported(db_,
                       "SELECT m.name FROM main.experiment m JOIN shard.experiment s ON s.name = m.name "
                       "WHERE s.origin = 'run' AND m.origin <> 'run'");
    if (imported.next()) refuse("'" + imported.text(0) + "' holds imported losses there");
    db_.execute(
        "INSERT INTO main.experiment(name, revision, origin, created_at, updated_at) SELECT name, revision, origin, "
        "created_at, updated_at FROM shard.experiment WHERE origin = 'run' AND name NOT IN (SELECT name FROM "
        "main.experiment);"
        "INSERT INTO main.experiment_revision(experiment, revision, created_at, file, text, results_version) "
        "SELECT m.id, r.revision, r.created_at, r.file, r.text, r.results_version FROM shard.experiment s "
        "JOIN main.experiment m ON m.name = s.name AND NOT EXISTS (SELECT 1 FROM main.experiment_revision k WHERE "
        "k.experiment = m.id) JOIN shard.experiment_revision r ON r.experiment = s.id AND r.revision = s.revision");
  }

  // Rows that are found again by a unique key, with ids of their own here.
  void copy_missing(const std::string& table, const std::string& condition) {
    const std::string columns = column_list(columns_of(db_, table), {"id"});
    db_.execute("INSERT OR IGNORE INTO main." + table + "(" + columns + ") SELECT " + columns + " FROM shard." + table +
                " WHERE " + condition);
  }

  void check_same_experiments() {
    // What was registered before results had a recorded version was of the first.
    Statement versions(db_,
                       "SELECT w.name, coalesce(s.results_version, 1), coalesce(m.results_version, 1) "
                       "FROM wanted_experiment w "
                       "JOIN shard.experiment_revision s ON s.experiment = w.old AND s.revision = w.old_revision "
                       "JOIN main.experiment_revision m ON m.experiment = w.new AND m.revision = w.new_revision");
    while (versions.next())
      if (versions.integer(1) != versions.integer(2))
        refuse("'" + versions.text(0) + "' has results of version " + std::to_string(versions.integer(1)) +
               ", and there they are of version " + std::to_string(versions.integer(2)) +
               ": versions of tenfold that compute differently are not mixed");
    Statement others(db_,
                     "SELECT w.name, count(*), min(label) FROM wanted_experiment w JOIN ("
                     "SELECT w.old AS old, s.label AS label FROM wanted_experiment w JOIN shard.configuration s ON "
                     "s.experiment = w.old AND s.revision = w.old_revision WHERE s.identity NOT IN (SELECT m.identity "
                     "FROM main.configuration m WHERE m.experiment = w.new AND m.revision = w.new_revision) UNION ALL "
                     "SELECT w.old, m.label FROM wanted_experiment w JOIN main.configuration m ON m.experiment = w.new "
                     "AND m.revision = w.new_revision WHERE m.identity NOT IN (SELECT s.identity FROM "
                     "shard.configuration s WHERE s.experiment = w.old AND s.revision = w.old_revision)) d "
                     "ON d.old = w.old WHERE EXISTS (SELECT 1 FROM main.configuration m WHERE m.experiment = w.new) "
                     "GROUP BY w.name");
    if (others.next())
      refuse("'" + others.text(0) + "' asks for other configurations there (" + std::to_string(others.integer(1)) +
             " are in one of the two alone, such as '" + others.text(2) +
             "'): its file or its data have changed; run all shards with the same ones");
  }

  void match_configurations() {
    const std::string columns = column_list(columns_of(db_, "configuration"), {"id", "experiment", "revision"});
    const std::string theirs = column_list(columns_of(db_, "configuration"), {"id", "experiment", "revision"}, "s.");
    db_.execute("INSERT OR IGNORE INTO main.configuration(experiment, revision, " + columns +
                ") SELECT w.new, w.new_revision, " + theirs +
                " FROM shard.configuration s JOIN wanted_experiment w ON w.old = s.experiment AND w.old_revision = "
                "s.revision ORDER BY s.position");
  }

  void match_fits() {
    const std::vector<std::string> all = columns_of(db_, "fit");
    db_.execute("INSERT OR IGNORE INTO main.fit(status, " + column_list(all, {"id", "status"}) +
                ") SELECT 'pending', " + column_list(all, {"id", "status"}, "s.") +
                " FROM shard.fit s WHERE s.id IN (SELECT fit FROM wanted_trial) ORDER BY s.id");
    db_.execute(match_units("fit",
                            "SELECT s.id AS old, m.id AS new FROM shard.fit s JOIN main.fit m ON m.identity = "
                            "s.identity WHERE s.id IN (SELECT fit FROM wanted_trial)"));
  }

  void match_trials() {
    const std::vector<std::string_view> own = {"id",  "experiment", "configuration", "split",
                                               "fit", "revision",   "status"};
    const std::vector<std::string> all = columns_of(db_, "trial");
    db_.execute(
        "INSERT OR IGNORE INTO main.trial(experiment, configuration, split, fit, revision, status, " +
        column_list(all, own) + ") SELECT w.experiment, c.new, f.new, p.new, w.revision, 'pending', " +
        column_list(all, own, "s.") +
        " FROM wanted_trial w JOIN shard.trial s ON s.id = w.old JOIN same_configuration c ON c.old = w.configuration "
        "JOIN same_fold f ON f.old = w.split JOIN pair_fit p ON p.old = w.fit ORDER BY s.id");
    db_.execute(
        match_units("trial",
                    "SELECT w.old AS old, m.id AS new FROM wanted_trial w JOIN same_configuration c ON c.old = "
                    "w.configuration JOIN main.trial m ON m.configuration = c.new AND m.identity = w.identity"));
  }

  void refuse_conflicts() {
    std::string named;
    std::size_t conflicts = 0;
    const auto add = [&](const std::string& name) {
      if (++conflicts <= kMostNamed) named += "\n  " + name;
    };
    for (const std::int64_t fit : differing_units(db_, "fit")) {
      Statement select(db_, "SELECT repeat, fold FROM main.fit WHERE id = ?1");
      select.bind(1, fit).next();
      add("fit " + std::to_string(fit) + ": repeat " + select.text(0) + " fold " + select.text(1));
    }
    for (const std::int64_t trial : differing_units(db_, "trial")) {
      Statement select(db_,
                       "SELECT t.repeat, t.fold, c.label FROM main.trial t JOIN main.configuration c ON c.id = "
                       "t.configuration WHERE t.id = ?1");
      select.bind(1, trial).next();
      add("trial " + std::to_string(trial) + ": '" + select.text(2) + "', repeat " + select.text(0) + " fold " +
          select.text(1));
    }
    if (conflicts == 0) return;
    if (conflicts > kMostNamed) named += "\n  and " + std::to_string(conflicts - kMostNamed) + " more";
    refuse(std::to_string(conflicts) +
           " fits and trials are done in both, with different results (other machines, or edited by hand?); merge "
           "into another store, or leave one of the two out:" +
           named);
  }

  void take() {
    for (const std::string unit : {"fit", "trial"}) {
      take_rows(db_, unit);
      std::string values;
      for (const std::string& column : columns_of(db_, unit)) {
        const bool own = column == "id" || column == "identity" || column == "experiment" ||
                         column == "configuration" || column == "split" || column == "fit" || column == "revision";
        if (!own) values += (values.empty() ? "" : ", ") + ("\"" + column) + "\" = s.\"" + column + "\"";
      }
      db_.execute("UPDATE main." + unit + " SET " + values + " FROM temp.take_" + unit + " k JOIN shard." + unit +
                  " s ON s.id = k.old WHERE main." + unit + ".id = k.new");
    }
    // Attempts and checkpoints keep their order behind those that are here.
    const std::string shift = std::to_string(db_.integer("SELECT coalesce(max(id), 0) FROM main.attempt"));
    for (const std::string unit : {"fit", "trial"}) {
      db_.execute("DELETE FROM main.checkpoint WHERE " + unit + " IN (SELECT new FROM take_" + unit + ")");
      // Those that came with an earlier state of the shard come again, with what became of them.
      db_.execute("DELETE FROM main.attempt WHERE id IN (SELECT m.id FROM take_" + unit +
                  " k JOIN main.attempt m ON m." + unit + " = k.new JOIN shard.attempt a ON a." + unit +
                  " = k.old AND a.host = m.host AND a.pid = m.pid AND a.started_at = m.started_at)");
      const std::vector<std::string_view> own = {"id", unit, "number"};
      const std::vector<std::string> attempt = columns_of(db_, "attempt");
      db_.execute("INSERT INTO main.attempt(id, " + unit + ", number, " + column_list(attempt, own) +
                  ") SELECT a.id + " + shift + ", k.new, a.number + (SELECT count(*) FROM main.attempt o WHERE o." +
                  unit + " = k.new AND o.id <= " + shift + "), " + column_list(attempt, own, "a.") + " FROM take_" +
                  unit + " k JOIN shard.attempt a ON a." + unit + " = k.old ORDER BY a.id");
      const std::vector<std::string_view> moved = {"id", unit, "attempt"};
      const std::vector<std::string> checkpoint = columns_of(db_, "checkpoint");
      db_.execute("INSERT INTO main.checkpoint(" + unit + ", attempt, " + column_list(checkpoint, moved) +
                  ") SELECT k.new, c.attempt + " + shift + ", " + column_list(checkpoint, moved, "c.") + " FROM take_" +
                  unit + " k JOIN shard.checkpoint c ON c." + unit +
                  " = k.old WHERE (c.path, c.sha256) NOT IN (SELECT path, sha256 FROM temp.lost_checkpoint) ORDER BY "
                  "c.id");
    }
    db_.execute(
        "INSERT INTO main.event(at, trial, kind, detail) SELECT e.at, p.new, e.kind, e.detail FROM shard.event e LEFT "
        "JOIN pair_trial p ON p.old = e.trial WHERE NOT EXISTS (SELECT 1 FROM main.event m WHERE m.at = e.at AND "
        "m.kind "
        "= e.kind AND m.detail = e.detail AND m.trial IS p.new) ORDER BY e.id");
  }

  // Before rows name them: a row never names a file that is not there.
  void copy_files(MergeSummary& summary) {
    for (const LostCheckpoint& lost : copy_checkpoint_files(db_, checkpoint_folder(shard_), checkpoint_folder(out_)))
      tell(summary, "checkpoint_damaged", "checkpoint " + lost.path + " is not taken over: " + lost.reason);
  }

  void tell(MergeSummary& summary, const std::string& kind, const std::string& text) {
    store_.add_event(std::nullopt, kind, text);
    summary.notes.push_back(text);
  }

  Store& store_;
  Connection& db_;
  std::filesystem::path out_, shard_;
};

}  // namespace

void Store::merge(const MergeSource& shard, MergeSummary& summary) {
  Connection& db = impl_->connection;
  {
    Statement attach(db, "ATTACH DATABASE ?1 AS shard");
    attach.bind(1, shard.uri()).run();
  }
  begin();
  try {
    Merger(*this, db, shard.store()).run(summary);
    for (const char* table :
         {"wanted_experiment", "wanted_trial", "same_dataset", "same_fold", "same_configuration", "pair_fit",
          "both_fit", "take_fit", "pair_trial", "both_trial", "take_trial", "lost_checkpoint", "reopened_fit"})
      db.execute("DROP TABLE temp." + std::string(table));
    shard.confirm();
    commit();
  } catch (...) {
    rollback();
    shard.confirm();  // what went wrong may come of that
    throw;            // the store is closed by who opened it, and the shard with it
  }
  db.execute("DETACH DATABASE shard");
}

MergeSummary merge_stores(const std::filesystem::path& out, const std::vector<std::filesystem::path>& shards) {
  std::vector<std::unique_ptr<MergeSource>> sources;  // all of them looked at before anything is written
  for (const std::filesystem::path& shard : shards) {
    std::error_code error;
    if (std::filesystem::equivalent(shard, out, error) && !error)
      throw Error(ErrorKind::config, shard.string() + " would be merged into itself: name the result first");
    sources.push_back(std::make_unique<MergeSource>(shard));
  }
  const RunLock lock = RunLock::acquire(out, "merge");
  const StoreHome home(out, lock);
  Store store = Store::open(home);
  MergeSummary summary;
  for (const auto& source : sources) store.merge(*source, summary);
  home.publish();
  store.count_trials(summary);
  return summary;
}

void Store::count_trials(MergeSummary& summary) {
  Statement select(impl_->connection,
                   "SELECT t.status, count(*) FROM trial t JOIN experiment e ON e.id = t.experiment AND e.revision = "
                   "t.revision WHERE e.origin = 'run' GROUP BY 1");
  while (select.next()) {
    const std::string status = select.text(0);
    (status == "done"     ? summary.trials_done
     : status == "failed" ? summary.trials_failed
                          : summary.trials_open) += select.integer(1);
  }
}

}  // namespace tenfold

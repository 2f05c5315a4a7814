#include "db/import_ttt_steps.h"

#include <optional>
#include <utility>

#include "db/csv_file.h"
#include "db/run_lock.h"
#include "db/schema.h"
#include "db/sqlite.h"
#include "db/store.h"
#include "db/store_home.h"
#include "db/text_table.h"
#include "db/ttt_recordings.h"
#include "experiments/hash.h"

namespace tenfold {
namespace {

// Imported losses have no plan behind them: a fold of unknown sizes, a done trial without a fit.
class ImportWriter {
 public:
  ImportWriter(Connection& db, const std::string& name) : db_(db), name_(name), now_(utc_now()) {}

  std::int64_t experiment(const std::filesystem::path& csv_file) {
    Statement find(db_, "SELECT 1 FROM experiment WHERE name = ?1");
    if (find.bind(1, name_).next())
      throw Error(ErrorKind::config,
                  db_.file().string() + " has an experiment '" + printable(name_) + "' already; choose another --name");
    Statement insert(db_,
                     "INSERT INTO experiment(name, revision, origin, created_at, updated_at) "
                     "VALUES(?1, 1, 'import', ?2, ?2)");
    insert.bind(1, name_).bind(2, now_).run();
    experiment_ = db_.last_insert_id();
    Statement revision(db_,
                       "INSERT INTO experiment_revision(experiment, revision, created_at, file, text) "
                       "VALUES(?1, 1, ?2, ?3, '')");
    revision.bind(1, experiment_).bind(2, now_).bind(3, csv_file.string()).run();
    return experiment_;
  }

  std::int64_t configuration(const std::string& label, std::int64_t position) {
    Statement insert(db_,
                     "INSERT INTO configuration(experiment, label, revision, position, identity) "
                     "VALUES(?1, ?2, 1, ?3, ?4)");
    insert.bind(1, experiment_).bind(2, label).bind(3, position).bind(4, identity("configuration", label, 0)).run();
    return db_.last_insert_id();
  }

  std::int64_t trial(std::int64_t configuration, const std::string& label, std::int64_t fold) {
    Statement find(db_, "SELECT id FROM fold WHERE experiment = ?1 AND repeat = 0 AND fold = ?2");
    std::int64_t split = 0;
    if (find.bind(1, experiment_).bind(2, fold).next()) {
      split = find.integer(0);
      find.reset();
    } else {
      Statement insert(db_, "INSERT INTO fold(experiment, repeat, fold, split_hash) VALUES(?1, 0, ?2, '')");
      insert.bind(1, experiment_).bind(2, fold).run();
      split = db_.last_insert_id();
    }
    Statement insert(db_,
                     "INSERT INTO trial(experiment, configuration, repeat, fold, split, identity, status, revision) "
                     "VALUES(?1, ?2, 0, ?3, ?4, ?5, 'done', 1)");
    insert.bind(1, experiment_).bind(2, configuration).bind(3, fold).bind(4, split);
    insert.bind(5, identity("trial", label, fold)).run();
    return db_.last_insert_id();
  }

  void rows(std::int64_t trial, const std::vector<TttRow>& rows) {
    Statement insert(db_,
                     "INSERT INTO ttt_step(trial, step, total, entropy, diversity, diversity_weight) "
                     "VALUES(?1, ?2, ?3, ?4, ?5, ?6)");
    for (const TttRow& row : rows)
      insert.bind(1, trial)
          .bind(2, row.step)
          .bind(3, row.total.value)
          .bind(4, row.entropy.value)
          .bind(5, row.diversity.value)
          .bind(6, row.weight)
          .run();
  }

  void event(std::int64_t trial, const std::string& detail) {
    Statement insert(db_, "INSERT INTO event(at, trial, kind, detail) VALUES(?1, ?2, 'import', ?3)");
    insert.bind(1, now_).bind(2, trial).bind(3, detail).run();
  }

 private:
  std::string identity(const char* kind, const std::string& label, std::int64_t fold) const {
    return sha256(std::string("import\n") + kind + "\n" + name_ + "\n" + label + "\n" + std::to_string(fold)).hex();
  }
  Connection& db_;
  std::string name_;
  std::string now_;
  std::int64_t experiment_ = 0;
};

std::string flag_text(const FlaggedRows& flagged) {
  std::string text = std::to_string(flagged.rows) + " rows of '" + printable(flagged.configuration) +
                     "' (first in line " + std::to_string(flagged.first_line) +
                     ") have a total that is not entropy + 0.15 diversity within the rounding of their digits; w = " +
                     short_number(flagged.best_weight) + " fits best";
  if (flagged.unexplained > 0) text += ", and " + std::to_string(flagged.unexplained) + " of them do not fit it either";
  return text;
}

}  // namespace

ImportSummary import_ttt_steps(const std::filesystem::path& db, const std::filesystem::path& csv_file,
                               const std::string& name) {
  if (name.empty()) throw Error(ErrorKind::config, "import: the experiment needs a name; give one with --name");
  ImportSummary summary;
  summary.experiment = name;
  CsvFile file(csv_file);
  TttRecordings recordings = read_ttt_recordings(file);
  summary.configurations = static_cast<std::int64_t>(recordings.configurations.size());
  summary.rows = recordings.rows;
  summary.ignored_columns = std::move(recordings.ignored_columns);

  const RunLock lock = RunLock::acquire(db, name);
  const StoreHome home(db, lock);
  Store::open(home);  // makes or migrates the file
  Connection connection(home.live(), Connection::Access::read_write);
  connection.execute("PRAGMA foreign_keys = ON");
  connection.execute("PRAGMA synchronous = FULL");
  Transaction transaction(connection);
  ImportWriter writer(connection, name);
  writer.experiment(csv_file);
  std::int64_t position = 0;
  for (auto& [label, recording] : recordings.configurations) {
    const std::optional<FlaggedRows> flagged = flag_unexplained(label, recording);
    const std::int64_t configuration = writer.configuration(label, position++);
    std::optional<std::int64_t> first_trial;
    for (const auto& [fold, rows] : recording.folds) {
      const std::int64_t trial = writer.trial(configuration, label, fold);
      if (!first_trial) first_trial = trial;
      writer.rows(trial, rows);
      ++summary.trials;
    }
    if (!flagged) continue;
    writer.event(*first_trial, flag_text(*flagged));
    summary.flagged.push_back(*flagged);
  }
  transaction.commit();
  home.publish();
  return summary;
}

std::string describe(const ImportSummary& summary) {
  std::string text = "imported " + std::to_string(summary.rows) + " rows as '" + printable(summary.experiment) +
                     "': " + std::to_string(summary.configurations) +
                     (summary.configurations == 1 ? " configuration, " : " configurations, ") +
                     std::to_string(summary.trials) + " curves\n";
  for (const FlaggedRows& flagged : summary.flagged) text += "note: " + flag_text(flagged) + "\n";
  if (!summary.ignored_columns.empty()) {
    text += "note: ignored columns:";
    for (const std::string& column : summary.ignored_columns) text += " " + column;
    text += "\n";
  }
  return text;
}

}  // namespace tenfold

#include "db/store.h"

#include <utility>

#include "db/schema.h"
#include "db/store_home.h"
#include "db/store_impl.h"
#include "experiments/fault_point.h"

namespace tenfold {
namespace {

constexpr unsigned kPersistent = SQLITE_PREPARE_PERSISTENT;
constexpr std::string_view kSelectCheckpoints = "SELECT id, step, history, path FROM checkpoint WHERE ";

std::string checkpoints_of(const char* column) {
  return std::string(kSelectCheckpoints) + column + " = ?1 ORDER BY step DESC, id DESC";
}

}  // namespace

StoreStatements::StoreStatements(Connection& c)
    : insert_attempt(c,
                     "INSERT INTO attempt(fit, trial, number, rank, host, pid, device, slot, log, started_at, "
                     "resumed_from_step, outcome) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 'running')",
                     kPersistent),
      end_attempt(c,
                  "UPDATE attempt SET outcome = ?2, reason = ?3, wall_s = ?4, peak_memory_bytes = ?5, "
                  "finished_at = ?6 WHERE id = ?1",
                  kPersistent),
      attempt_unit(c, "SELECT fit, trial FROM attempt WHERE id = ?1", kPersistent),
      fit_status(c, "UPDATE fit SET status = ?2, reason = ?3 WHERE id = ?1", kPersistent),
      trial_status(c, "UPDATE trial SET status = ?2, reason = ?3 WHERE id = ?1", kPersistent),
      copy_fit_evaluation(c,
                          "INSERT OR REPLACE INTO evaluation(trial, phase, step, metric, value, hits, total) "
                          "SELECT ?1, phase, step, metric, value, hits, total FROM fit_evaluation WHERE fit = ?2 "
                          "AND phase IN ('train', 'validation')",
                          kPersistent),
      copy_to_done_trials(c,
                          "INSERT OR REPLACE INTO evaluation(trial, phase, step, metric, value, hits, total) "
                          "SELECT t.id, e.phase, e.step, e.metric, e.value, e.hits, e.total FROM trial t "
                          "JOIN fit_evaluation e ON e.fit = t.fit WHERE t.fit = ?1 AND t.status = 'done' "
                          "AND e.phase IN ('train', 'validation') AND NOT EXISTS (SELECT 1 FROM evaluation v "
                          "WHERE v.trial = t.id AND v.phase = 'train')",
                          kPersistent),
      trial_fit(c, "SELECT fit FROM trial WHERE id = ?1", kPersistent),
      open_trial_of_fit(c, "SELECT 1 FROM trial WHERE fit = ?1 AND status IN ('pending', 'running', 'stopped') LIMIT 1",
                        kPersistent),
      fail_trials_of_fit(c,
                         "UPDATE trial SET status = 'failed', reason = ?2 "
                         "WHERE fit = ?1 AND status IN ('pending', 'running', 'stopped')",
                         kPersistent),
      done_fit(c, "SELECT 1 FROM fit WHERE id = ?1 AND status = 'done'", kPersistent),
      checkpoints_of_fit(c, checkpoints_of("fit"), kPersistent),
      checkpoints_of_trial(c, checkpoints_of("trial"), kPersistent),
      insert_checkpoint(c,
                        "INSERT INTO checkpoint(fit, trial, attempt, path, array_index, step, sha256, bytes, history, "
                        "created_at) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                        kPersistent),
      delete_checkpoint(c, "DELETE FROM checkpoint WHERE id = ?1", kPersistent),
      path_in_use(c, "SELECT 1 FROM checkpoint WHERE path = ?1 LIMIT 1", kPersistent),
      insert_event(c, "INSERT INTO event(at, trial, kind, detail) VALUES(?1, ?2, ?3, ?4)", kPersistent) {}

Store::Impl::Impl(const std::filesystem::path& name, const std::filesystem::path& live)
    : db(name), connection(live, Connection::Access::read_write) {
  // A cell of a commit that returned is on the disk, whatever happens next.
  connection.execute("PRAGMA journal_mode = WAL");
  connection.execute("PRAGMA synchronous = FULL");
  connection.execute("PRAGMA foreign_keys = ON");
  connection.execute("PRAGMA secure_delete = OFF");
  connection.execute("PRAGMA cache_size = -16384");  // KiB
  connection.execute("PRAGMA temp_store = MEMORY");
  connection.execute("PRAGMA wal_autocheckpoint = 8192");  // pages: 32 MiB, so that a hot page is written back once
  create_or_migrate(connection);
  statements = std::make_unique<StoreStatements>(connection);
  rows = std::make_unique<StoreRows>(connection);
}

void Store::Impl::require_transaction(const char* what) const {
  if (!in_transaction) throw Error(ErrorKind::internal, std::string("Store::") + what + " outside begin and commit");
}

// Whoever registers a plan holds the run lock, so nothing else is running.
void Store::Impl::end_what_a_kill_left() {
  Statement running(connection, "SELECT count(*) FROM attempt WHERE outcome = 'running'");
  running.next();
  if (const std::int64_t lost = running.integer(0); lost > 0)
    statements->insert_event.bind(1, now)
        .bind(2, std::optional<RowId>())
        .bind(3, "run_lost")
        .bind(4, "the run before this one ended without a word; attempts under way: " + std::to_string(lost))
        .run();
  running.reset();
  Statement attempts(connection,
                     "UPDATE attempt SET outcome = 'failed', reason = 'the run ended without a word', "
                     "finished_at = ?1 WHERE outcome = 'running'");
  attempts.bind(1, now).run();
  connection.execute("UPDATE fit SET status = 'pending' WHERE status IN ('running', 'stopped')");
  connection.execute("UPDATE trial SET status = 'pending' WHERE status IN ('running', 'stopped')");
}

void Store::Impl::set_status(UnitKind kind, RowId unit, TrialStatus status, const std::string& reason) {
  Statement& update = kind == UnitKind::fit ? statements->fit_status : statements->trial_status;
  update.bind(1, unit).bind(2, to_string(status));
  if (reason.empty())
    update.bind_null(3);
  else
    update.bind(3, reason);
  update.run();
}

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Store::Store(Store&&) noexcept = default;
Store& Store::operator=(Store&&) noexcept = default;
Store::~Store() = default;

Store Store::open(const std::filesystem::path& file) { return Store(std::make_unique<Impl>(file, file)); }

Store Store::open(const StoreHome& home) {
  Store store(std::make_unique<Impl>(home.db(), home.live()));
  if (const std::string from = home.taken_from(); !from.empty()) {
    store.begin();
    store.add_event(std::nullopt, "lease_taken", "the store was taken over from " + from);
    store.commit();
  }
  return store;
}

const std::filesystem::path& Store::file() const { return impl_->db; }

void Store::begin() {
  if (impl_->in_transaction) throw Error(ErrorKind::internal, "Store::begin inside a transaction");
  impl_->connection.execute("BEGIN IMMEDIATE");
  impl_->in_transaction = true;
  impl_->now = utc_now();
}

void Store::commit() {
  impl_->require_transaction("commit");
  // Before the commit, so that a failure here undoes the whole; the list is given out after it.
  const std::size_t before = impl_->superseded.size();
  impl_->note_superseded();
  try {
    fault_point("commit");
    impl_->connection.execute("COMMIT");
  } catch (...) {
    impl_->superseded.resize(before);
    throw;
  }
  impl_->in_transaction = false;
  fault_point("committed");
}

void Store::rollback() {
  impl_->in_transaction = false;
  impl_->dropped_paths.clear();
  // A full disk makes SQLite roll back by itself; a second time would be an error.
  if (sqlite3_get_autocommit(impl_->connection.handle()) == 0) impl_->connection.execute("ROLLBACK");
}

RowId Store::begin_attempt(const AttemptStart& start) {
  impl_->require_transaction("begin_attempt");
  StoreStatements& s = *impl_->statements;
  const bool fit = start.kind == UnitKind::fit;
  impl_->rows->rewind(start.kind, start.unit, start.resumed_from_step);
  impl_->drop_checkpoints_after(start.kind, start.unit, start.resumed_from_step);
  Statement& insert = s.insert_attempt;
  insert.bind_null(fit ? 2 : 1).bind(fit ? 1 : 2, start.unit);
  insert.bind(3, std::int64_t{start.number}).bind(4, std::int64_t{start.rank}).bind(5, start.host).bind(6, start.pid);
  insert.bind(7, start.device).bind(8, std::int64_t{start.slot}).bind(9, start.log).bind(10, impl_->now);
  if (start.resumed_from_step < 0)
    insert.bind_null(11);
  else
    insert.bind(11, start.resumed_from_step);
  insert.run();
  const RowId attempt = impl_->connection.last_insert_id();
  if (start.rate) impl_->set_rate(start.kind, start.unit, *start.rate);
  impl_->set_status(start.kind, start.unit, TrialStatus::running, "");
  return attempt;
}

void Store::finish_attempt(const AttemptEnd& end) {
  impl_->require_transaction("finish_attempt");
  StoreStatements& s = *impl_->statements;
  s.attempt_unit.bind(1, end.attempt);
  if (!s.attempt_unit.next())
    throw Error(ErrorKind::internal, "an attempt that never began was finished: " + std::to_string(end.attempt));
  const UnitKind kind = s.attempt_unit.is_null(0) ? UnitKind::trial : UnitKind::fit;
  const RowId unit = s.attempt_unit.integer(kind == UnitKind::fit ? 0 : 1);
  s.attempt_unit.reset();

  s.end_attempt.bind(1, end.attempt).bind(2, to_string(end.outcome)).bind(4, end.wall_s);
  s.end_attempt.bind(5, end.peak_memory_bytes).bind(6, impl_->now);
  if (end.reason.empty())
    s.end_attempt.bind_null(3);
  else
    s.end_attempt.bind(3, end.reason);
  s.end_attempt.run();
  impl_->set_status(kind, unit, end.unit_status, end.unit_status == TrialStatus::failed ? end.reason : "");
  if (end.rate) {
    impl_->set_rate(kind, unit, *end.rate);
    // What it does not go on from must not be taken by a run that comes after a kill at this instant.
    impl_->drop_checkpoints_after(kind, unit, end.rate->from_step);
  }
  if (kind == UnitKind::fit && end.unit_status == TrialStatus::done) {
    Statement stopped(impl_->connection, "UPDATE fit SET stopped_nonfinite = ?2 WHERE id = ?1");
    stopped.bind(1, unit).bind(2, std::int64_t{end.stopped_nonfinite}).run();
    // Trials that ended while the fit was computed once more.
    s.copy_to_done_trials.bind(1, unit).run();
  }
  if (kind == UnitKind::trial && end.unit_status == TrialStatus::done) {
    s.trial_fit.bind(1, unit);
    if (s.trial_fit.next() && !s.trial_fit.is_null(0)) {
      const RowId fit = s.trial_fit.integer(0);
      s.copy_fit_evaluation.bind(1, unit).bind(2, fit).run();
    }
    s.trial_fit.reset();
  }
  if (kind == UnitKind::fit && end.unit_status == TrialStatus::failed) {
    const std::string reason = "its training failed: " + end.reason;
    s.fail_trials_of_fit.bind(1, unit).bind(2, reason).run();
  }
  impl_->retire_checkpoints(kind, unit, end.unit_status);
}

void Store::add_event(std::optional<RowId> trial, const std::string& kind, const std::string& detail) {
  impl_->require_transaction("add_event");
  impl_->statements->insert_event.bind(1, impl_->now).bind(2, trial).bind(3, kind).bind(4, detail).run();
}

}  // namespace tenfold

#include "db/status.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <limits>
#include <system_error>

#include "db/reader.h"
#include "db/selection.h"
#include "db/sqlite.h"

namespace tenfold {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr std::size_t kMostRunning = 64;

// Fits that trials of the current revision use.
constexpr const char* kCountFits =
    "SELECT f.status, count(*) FROM fit f WHERE f.id IN (SELECT t.fit FROM trial t JOIN experiment e "
    "ON e.id = t.experiment AND e.revision = t.revision WHERE t.experiment = ?1) GROUP BY 1";
constexpr const char* kCountTrials =
    "SELECT t.status, count(*) FROM trial t JOIN experiment e ON e.id = t.experiment AND e.revision = t.revision "
    "WHERE t.experiment = ?1 GROUP BY 1";
constexpr const char* kRunning =
    "SELECT a.fit, a.trial, a.number, a.rank, a.slot, a.host, a.device, a.started_at, "
    "coalesce(t.repeat, f.repeat), coalesce(t.fold, f.fold), "
    "(SELECT c.label FROM trial o JOIN configuration c ON c.id = o.configuration WHERE o.experiment = ?1 AND "
    " (o.id = a.trial OR (a.trial IS NULL AND o.fit = a.fit)) LIMIT 1) AS label, "
    "CASE WHEN a.fit IS NULL THEN (SELECT max(step) FROM ttt_step s WHERE s.trial = a.trial) "
    "ELSE (SELECT max(step) FROM train_step s WHERE s.fit = a.fit) END "
    "FROM attempt a LEFT JOIN trial t ON t.id = a.trial LEFT JOIN fit f ON f.id = a.fit "
    "WHERE a.outcome = 'running' AND (t.experiment = ?1 OR EXISTS "
    "(SELECT 1 FROM trial o WHERE o.fit = a.fit AND o.experiment = ?1)) ORDER BY a.started_at, a.id";

StatusCounts counts(Connection& connection, const char* sql, std::int64_t experiment) {
  Statement select(connection, sql);
  select.bind(1, experiment);
  StatusCounts result;
  while (select.next()) {
    const std::string status = select.text(0);
    const std::int64_t count = select.integer(1);
    if (status == "pending") result.pending = count;
    if (status == "running") result.running = count;
    if (status == "done") result.done = count;
    if (status == "failed") result.failed = count;
    if (status == "stopped") result.stopped = count;
  }
  return result;
}

// Members of an array share its time, so a slot makes 1/(mean wall_s of a row) member updates a second.
double slot_rate(Connection& connection, const RunningAttempt& attempt) {
  const bool fit = attempt.unit == "fit";
  Statement select(connection,
                   fit ? "SELECT avg(wall_s) FROM (SELECT wall_s FROM train_step WHERE fit = ?1 "
                         "ORDER BY step DESC LIMIT 50)"
                       : "SELECT avg(wall_s) FROM (SELECT wall_s FROM ttt_step WHERE trial = ?1 AND step > 0 "
                         "ORDER BY step DESC LIMIT 10)");
  select.bind(1, attempt.id).next();
  const double wall_s = select.real(0);
  return wall_s > 0 ? 1 / wall_s : 0;
}

void read_running(Connection& connection, std::int64_t experiment, ExperimentStatus& status) {
  Statement select(connection, kRunning);
  select.bind(1, experiment);
  while (select.next()) {
    ++status.running_total;
    if (status.running.size() >= kMostRunning) continue;
    RunningAttempt& attempt = status.running.emplace_back();
    attempt.unit = select.is_null(0) ? "trial" : "fit";
    attempt.id = select.integer(select.is_null(0) ? 1 : 0);
    attempt.number = select.integer(2);
    attempt.rank = select.integer(3);
    attempt.slot = select.integer(4);
    attempt.host = select.text(5);
    attempt.device = select.text(6);
    attempt.started_at = select.text(7);
    attempt.repeat = select.integer(8);
    attempt.fold = select.integer(9);
    attempt.label = select.text(10);
    attempt.step = select.is_null(11) ? -1 : select.integer(11);
  }
  std::vector<std::pair<std::string, std::int64_t>> slots;  // host, slot: one rate each
  for (const RunningAttempt& attempt : status.running) {
    const std::pair slot{attempt.host, attempt.rank};
    if (std::find(slots.begin(), slots.end(), slot) != slots.end()) continue;
    slots.push_back(slot);
    status.updates_per_s += slot_rate(connection, attempt);
  }
}

void read_latest(Connection& connection, std::int64_t experiment, ExperimentStatus& status) {
  // The attempt that began last and has rows.
  Statement trial(connection,
                  "SELECT t.id, c.label FROM attempt a JOIN trial t ON t.id = a.trial JOIN configuration c "
                  "ON c.id = t.configuration WHERE t.experiment = ?1 AND EXISTS "
                  "(SELECT 1 FROM ttt_step s WHERE s.trial = t.id) ORDER BY a.id DESC LIMIT 1");
  status.total = status.entropy = status.diversity = status.loss = kNan;
  if (trial.bind(1, experiment).next()) {
    status.latest_label = trial.text(1);
    Statement row(connection,
                  "SELECT step, total, entropy, diversity FROM ttt_step WHERE trial = ?1 ORDER BY step DESC LIMIT 1");
    if (row.bind(1, trial.integer(0)).next()) {
      status.latest_step = row.integer(0);
      status.total = row.real(1);
      status.entropy = row.real(2);
      status.diversity = row.real(3);
    }
  }
  Statement loss(
      connection,
      "SELECT s.loss FROM train_step s WHERE s.fit = (SELECT a.fit FROM attempt a WHERE a.fit IN "
      "(SELECT fit FROM trial WHERE experiment = ?1) AND EXISTS (SELECT 1 FROM train_step x WHERE x.fit = a.fit) "
      "ORDER BY a.id DESC LIMIT 1) ORDER BY s.step DESC LIMIT 1");
  if (loss.bind(1, experiment).next()) status.loss = loss.real(0);
}

std::string time_text(std::filesystem::file_time_type time) {
  const auto system = std::chrono::file_clock::to_sys(time);
  const std::time_t seconds =
      std::chrono::system_clock::to_time_t(std::chrono::time_point_cast<std::chrono::system_clock::duration>(system));
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

// A commit writes the log beside the store; a checkpoint of the log writes the store itself.
std::string last_write(const std::filesystem::path& db) {
  std::error_code error;
  auto latest = std::filesystem::last_write_time(db, error);
  if (error) return "";
  const std::filesystem::path log = db.string() + "-wal";
  const auto size = std::filesystem::file_size(log, error);
  if (!error && size > 0)
    if (const auto time = std::filesystem::last_write_time(log, error); !error && time > latest) latest = time;
  return time_text(latest);
}

ExperimentStatus status_of(Connection& connection, std::int64_t experiment) {
  ExperimentStatus status;
  Statement select(connection, "SELECT name, revision, origin = 'import' FROM experiment WHERE id = ?1");
  select.bind(1, experiment).next();
  status.name = select.text(0);
  status.revision = select.integer(1);
  status.imported = select.integer(2) != 0;
  select.reset();
  Statement configurations(connection, "SELECT count(*) FROM configuration WHERE experiment = ?1 AND revision = ?2");
  configurations.bind(1, experiment).bind(2, status.revision).next();
  status.configurations = configurations.integer(0);
  status.fits = counts(connection, kCountFits, experiment);
  status.trials = counts(connection, kCountTrials, experiment);
  read_running(connection, experiment, status);
  read_latest(connection, experiment, status);
  Statement attempts(connection,
                     "SELECT min(started_at), sum(outcome = 'failed'), sum(trial IS NOT NULL AND outcome = 'done' AND "
                     "finished_at > strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-5 minutes')) FROM attempt WHERE "
                     "trial IN (SELECT id FROM trial WHERE experiment = ?1) OR "
                     "fit IN (SELECT fit FROM trial WHERE experiment = ?1)");
  attempts.bind(1, experiment).next();
  status.started_at = attempts.text(0);
  status.failed_attempts = attempts.integer(1);
  status.trials_per_minute = static_cast<double>(attempts.integer(2)) / 5;
  status.last_commit_at = last_write(connection.file());
  return status;
}

}  // namespace

std::vector<ExperimentStatus> read_status(const std::filesystem::path& db, const std::optional<std::string>& name) {
  Reader reader = Reader::open(db);
  Connection& connection = reader.connection();
  connection.execute("BEGIN");  // one snapshot for all the questions; a reader's transaction needs no end
  std::vector<std::int64_t> ids;
  if (name) {
    ids.push_back(select_experiment(connection, *name).id);
  } else {
    Statement select(connection, "SELECT id FROM experiment ORDER BY id");
    while (select.next()) ids.push_back(select.integer(0));
  }
  std::vector<ExperimentStatus> result;
  for (const std::int64_t id : ids) result.push_back(status_of(connection, id));
  return result;
}

}  // namespace tenfold

#include "tests/faults/oracle.h"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <algorithm>
#include <span>

#include "experiments/file_text.h"

namespace tenfold {
namespace {

std::string contents(const std::string& file) { return file_text(file).value_or(""); }

// Rows as CSV. Not by the product's own `query`: it is not what should say whether a store that it wrote is sound.
std::string rows(const Workspace& workspace, const std::string& db, const char* sql) {
  sqlite3* connection = nullptr;
  std::string text;
  const auto append = [](void* into, int columns, char** values, char**) {
    std::string& line = *static_cast<std::string*>(into);
    for (int i = 0; i < columns; ++i) line += (i > 0 ? "," : "") + std::string(values[i] ? values[i] : "");
    line += '\n';
    return 0;
  };
  char* error = nullptr;
  if (sqlite3_open_v2(workspace.file(db).c_str(), &connection, SQLITE_OPEN_READONLY, nullptr) != SQLITE_OK ||
      sqlite3_busy_timeout(connection, 5000) != SQLITE_OK ||
      sqlite3_exec(connection, sql, append, &text, &error) != SQLITE_OK)
    text += std::string("error: ") + (error ? error : sqlite3_errmsg(connection));
  sqlite3_free(error);
  sqlite3_close(connection);
  return text;
}

// Must give no row.
struct Rule {
  const char* meaning;
  const char* violations;
};

constexpr Rule kAlways[] = {
    {"foreign keys lead somewhere", "PRAGMA foreign_key_check"},
    {"a trial has one final result at most",
     "SELECT trial, count(*) FROM attempt WHERE trial IS NOT NULL AND outcome = 'done' GROUP BY trial HAVING count(*) "
     "> 1"},
    {"a trial that is done was done by an attempt",
     "SELECT id FROM trial WHERE status = 'done' AND id NOT IN (SELECT trial FROM attempt WHERE outcome = 'done' AND "
     "trial IS NOT NULL)"},
    {"no step of a fit twice", "SELECT fit, step FROM train_step GROUP BY 1, 2 HAVING count(*) > 1"},
    {"no step of a trial twice", "SELECT trial, step FROM ttt_step GROUP BY 1, 2 HAVING count(*) > 1"},
    {"no metric twice", "SELECT trial, phase, step, metric FROM evaluation GROUP BY 1, 2, 3, 4 HAVING count(*) > 1"},
    {"what failed says why", "SELECT id FROM attempt WHERE outcome = 'failed' AND coalesce(reason, '') = ''"},
};

constexpr Rule kWhenEnded[] = {
    {"every trial is done or failed", "SELECT id, status FROM trial WHERE status NOT IN ('done', 'failed')"},
    {"no attempt runs any more", "SELECT id FROM attempt WHERE outcome = 'running'"},
};

constexpr Rule kWhenFinished[] = {
    {"every trial is done", "SELECT id, status FROM trial WHERE status <> 'done'"},
    {"no checkpoint is kept for nothing", "SELECT path FROM checkpoint"},
};

void expect_rules(const Workspace& workspace, const std::string& db, std::span<const Rule> rules) {
  for (const Rule& rule : rules) EXPECT_EQ(rows(workspace, db, rule.violations), "") << db << ": " << rule.meaning;
}

void expect_store_finished(const Workspace& workspace, const std::string& db) {
  expect_sound(workspace, db);
  expect_rules(workspace, db, kWhenEnded);
  expect_rules(workspace, db, kWhenFinished);
}

}  // namespace

void expect_sound(const Workspace& workspace, const std::string& db) {
  EXPECT_EQ(rows(workspace, db, "PRAGMA integrity_check"), "ok\n") << db;
  expect_rules(workspace, db, kAlways);
}

void expect_ended(const Workspace& workspace, const std::string& db) {
  expect_none_left(workspace);
  expect_sound(workspace, db);
  expect_rules(workspace, db, kWhenEnded);
}

void expect_finished(const Workspace& workspace, const std::string& db) {
  expect_none_left(workspace);
  expect_store_finished(workspace, db);
}

void expect_as_undisturbed(const Workspace& workspace, const std::string& db, const std::string& expected) {
  expect_none_left(workspace);
  expect_store_as_undisturbed(workspace, db, expected);
}

void expect_store_as_undisturbed(const Workspace& workspace, const std::string& db, const std::string& expected) {
  expect_store_finished(workspace, db);
  const std::string results = results_of(workspace, db);
  if (results == expected) return;
  const auto differ = std::mismatch(results.begin(), results.end(), expected.begin(), expected.end());
  const auto place = static_cast<std::size_t>(differ.first - results.begin());
  const std::size_t from = place < 200 ? 0 : place - 200;
  ADD_FAILURE() << db << " has other results than an undisturbed run; first\n"
                << results.substr(from, 400) << "\ninstead of\n"
                << expected.substr(from, 400);
}

void expect_none_left(const Workspace& workspace, std::chrono::milliseconds limit) {
  if (workspace.wait_until_none_left(limit)) return;
  ADD_FAILURE() << "still alive after " << limit.count() << " ms:" << workspace.describe_processes();
}

pid_t rank_process(const Workspace& workspace, int rank) {
  const std::string mark = "OMPI_COMM_WORLD_RANK=" + std::to_string(rank);
  // mpirun has the same words, but no rank; a trainer has neither.
  for (const pid_t pid : workspace.processes("\"front_socket\"")) {
    const std::string environment = '\0' + contents("/proc/" + std::to_string(pid) + "/environ");
    if (environment.find('\0' + mark + '\0') != std::string::npos) return pid;
  }
  return -1;
}

}  // namespace tenfold

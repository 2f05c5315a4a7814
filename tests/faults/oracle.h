#pragma once

#include <chrono>
#include <string>

#include "tests/integration/run_process.h"

// What must be true after any fault. A violation is a failure of the running test.
namespace tenfold {

// The store as it is, finished or not: SQLite's own check, no (unit, step) twice, at most one final result per trial,
// nothing final without its result, no reference to what is not there.
void expect_sound(const Workspace& workspace, const std::string& db);

// A run that came to its end: nothing of it lives any more, and its store is sound, every trial done or failed, and no
// attempt still said to be running.
void expect_ended(const Workspace& workspace, const std::string& db);

// ... every trial is done, by exactly one attempt, and no checkpoint is left.
void expect_finished(const Workspace& workspace, const std::string& db);

// ... and every row is bit-equal to `expected` (results_of an undisturbed run).
void expect_as_undisturbed(const Workspace& workspace, const std::string& db, const std::string& expected);
// The same of the store alone, where another run of the test goes on.
void expect_store_as_undisturbed(const Workspace& workspace, const std::string& db, const std::string& expected);

// Nothing of the workspace lives any more; what still does after `limit` is named in the failure.
void expect_none_left(const Workspace& workspace, std::chrono::milliseconds limit = std::chrono::seconds(5));

// The pid of a rank of the run under way (0: the coordinator), or -1: none.
pid_t rank_process(const Workspace& workspace, int rank);

}  // namespace tenfold

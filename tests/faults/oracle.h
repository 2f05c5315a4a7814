#pragma once

#include <chrono>
#include <string>

#include "tests/integration/run_process.h"

// What must be true after any fault. A violation is a failure of the running test.
namespace tenfold {

// The store as it is, finished or not: SQLite's own check, no (unit, step) twice, at most one final result per trial,
// nothing final without its result, no reference to what is not there.
void expect_sound(const Workspace& workspace, const std::string& db);

// A finished run: sound, every trial done by exactly one attempt, no attempt that is still said to be running, every
// row bit-equal to `expected` (results_of an undisturbed run), no checkpoint left.
void expect_as_undisturbed(const Workspace& workspace, const std::string& db, const std::string& expected);

// Nothing of the workspace lives any more; what still does after `limit` is named in the failure.
void expect_none_left(const Workspace& workspace, std::chrono::milliseconds limit = std::chrono::seconds(5));

// The pid of a rank of the run under way (0: the coordinator), or -1: none.
pid_t rank_process(const Workspace& workspace, int rank);

}  // namespace tenfold

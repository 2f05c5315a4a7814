#pragma once

#include <optional>
#include <string>

#include "db/store.h"
#include "runner/coordinator_front.h"
#include "runner/hosts.h"
#include "runner/planning.h"
#include "runner/run.h"

// What a user reads before and after a run.
namespace tenfold {

// One or two lines: how much there is to do, what is new, where it goes.
std::string describe_start(const PreparedExperiment& prepared, const RegisteredPlan& registered,
                           const RunOptions& options, const HostLayout& layout);

bool everything_is_done(const RegisteredPlan& registered);

// Prints the result table and where to look next, or why there is none. Returns the exit code. `signal` asked for the
// drain, if one did. Throws the outcome's error.
int report_end(const RunOptions& options, const RunOutcome& outcome, std::optional<int> signal,
               const std::string& experiment_name);

// "nothing to do", with the table.
void report_nothing_to_do(const PreparedExperiment& prepared, const RunOptions& options);

}  // namespace tenfold

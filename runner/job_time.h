#pragma once

#include <chrono>
#include <optional>
#include <string_view>

namespace tenfold {

// When this run has to be over: `time_limit_s` from now, or else (0) at the end of the SLURM job that we are in
// ($SLURM_JOB_END_TIME, which the batch script sets where SLURM does not). On the steady clock, which all processes of
// a host share and which never jumps. Empty: no limit is known.
std::optional<std::chrono::steady_clock::time_point> job_end(double time_limit_s);

// SLURM's notation: minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes and
// days-hours:minutes:seconds. In seconds; empty when it is none of them.
std::optional<double> parse_slurm_time(std::string_view text);

}  // namespace tenfold

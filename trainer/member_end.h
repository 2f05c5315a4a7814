#pragma once

#include <algorithm>
#include <chrono>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "trainer/array.h"
#include "trainer/checkpoint.h"

// What fits and trials share when they leave their array.
namespace tenfold {

// FitMember and AdaptMember, as to how they end.
struct MemberEnd {
  std::string failure;
  bool nonfinite = false;  // a value was not finite; a lower rate may help
  int put_back = 0;        // how often, to what was finite (on_nonfinite.policy: stop)
  std::string stopped;     // why it ended before its last step
  bool measured = false;   // by its last evaluation, whose rows are reported
  bool over = false;       // its outcome is reported
  double wall_s = 0;
};

// A drain may come when a member is at rest and before its last evaluation; its checkpoint then holds `stopped`,
// `nonfinite`, `put_back`, `measured` and what more the caller puts into the object, as JSON in a tensor of bytes.
nlohmann::json describe_end(const MemberEnd& member);
void save_ends(const std::vector<nlohmann::json>& ends, StackedTensors& tensors);
// An object without members where the checkpoint holds none. Throws Error(data) where it holds nonsense.
nlohmann::json restore_end(const MemberTensors& saved, MemberEnd& member);

// Reading data, evaluations and checkpoints since `start`: what no member has been told of yet is shared by those that
// are still in the array.
template <class Member>
void share_remaining_time(std::vector<Member>& members, std::chrono::steady_clock::time_point start) {
  double told = 0, open = 0;
  for (const Member& member : members) {
    told += member.wall_s;
    open += member.over ? 0 : 1;
  }
  const double rest = std::max(0.0, seconds_since(start) - told);
  for (Member& member : members)
    if (!member.over) member.wall_s += rest / open;
}

// Reports how member k ended: `status` with its reason, or failed. A NaN comes back, so a failed one is not retried.
// Member: FitMember or AdaptMember.
template <class Member>
void report_end(const ArrayContext& context, Member& member, std::size_t k, TrialStatus status,
                const std::string& reason, std::int64_t steps) {
  const bool failed = !member.failure.empty();
  MemberOutcome outcome;
  outcome.member = static_cast<std::int32_t>(k);
  outcome.status = failed ? TrialStatus::failed : status;
  outcome.reason = failed ? member.failure : reason;
  outcome.retry = !failed;
  outcome.nonfinite = member.nonfinite;
  outcome.steps = steps;
  outcome.wall_s = member.wall_s;
  outcome.peak_memory_bytes = context.compute.peak_memory_bytes();
  context.reporter.outcome(outcome);
  member.over = true;
}

}  // namespace tenfold

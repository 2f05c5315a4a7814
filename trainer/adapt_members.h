#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <string>
#include <vector>

#include "trainer/adaptation_control.h"
#include "trainer/array.h"
#include "trainer/member_end.h"

// The members of a trial array and the lanes they are computed as.
namespace tenfold {

// A sequence of batches with parameters of its own: a member, or, with `reset: batch`, one batch of a member.
struct Lane {
  std::int32_t member;
  std::vector<std::int64_t> rows;  // of the stacked test samples
};

struct AdaptMember : MemberEnd {
  ArrayMember base;
  std::vector<std::int64_t> all_rows;      // the whole held-out fold, in the stacked test samples
  std::vector<std::int64_t> query_rows;    // the adaptation set
  std::vector<std::int64_t> query_places;  // of the adaptation set within the fold
  std::int64_t passes = 0;
  AdaptationControl control;
  std::int64_t passes_done = 0;
  bool at_rest(std::int64_t pass) const { return !failure.empty() || control.finished_at >= 0 || pass >= passes; }
  const TttSpec& ttt() const { return base.spec.ttt; }
  double rate(std::int64_t pass) const { return control.lr(ttt(), pass) * base.job.rate_scale; }
};

// The adaptation set of a fold: places in it, ascending; a random choice of query_size samples, all where it has no
// more.
std::vector<std::int64_t> query_places(const ExperimentSpec& spec, int repeat, int fold, std::int64_t test_n);

// Chooses every member's adaptation set and lists the test samples of the distinct folds, to be stacked.
std::vector<AdaptMember> prepare_members(std::vector<ArrayMember> bases, std::vector<SampleTable>& test_samples);

bool resets_by_batch(std::span<const AdaptMember> members);

// In the members' order; every member has equally many, so that a checkpoint is (K, lanes of a member, ...).
std::vector<Lane> make_lanes(const std::vector<AdaptMember>& members);

// Batches of a pass, the most of any lane.
std::int64_t updates_of_pass(std::span<const Lane> lanes, std::int64_t batch);

std::vector<std::int32_t> members_of(std::span<const Lane> lanes);  // by lane
std::vector<ArrayMember> bases_of(std::span<const AdaptMember> members);

}  // namespace tenfold

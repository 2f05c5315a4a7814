#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "datasets/length_buckets.h"
#include "trainer/adapt_members.h"

namespace tenfold {

// Which samples the updates of a pass take. Fixed samples: the lane's rows, in the pass's order, batch after batch.
// Sequences: batches of like length, of one padded length for all folds at each update, as in training (fit_batches.h);
// with `reset: batch` a lane is one batch, padded to the longest sample of all.
class AdaptBatches {
 public:
  AdaptBatches(std::span<const AdaptMember> members, std::span<const Lane> lanes, const SampleTable& samples);

  std::int64_t updates() const { return updates_; }  // of a pass, the most of any lane
  std::vector<std::int64_t> padded_lengths() const;  // that occur; {1} for fixed samples
  std::int64_t longest() const;                      // of them
  std::int64_t padded_length(std::int64_t pass, std::int64_t update);
  // [update][samples]: rows of the stacked test samples.
  std::vector<std::vector<std::int64_t>> batches(const AdaptMember& member, const Lane& lane, std::int64_t pass);

 private:
  const std::vector<std::int64_t>& order(const TttSpec& ttt, std::int64_t pass);

  const SampleTable& samples_;
  bool by_batch_;  // reset: batch
  TttSpec ttt_;    // what is equal in all members
  std::uint64_t seed_;
  std::int64_t updates_ = 0;
  std::vector<std::int64_t> bounds_;
  std::optional<BatchPlan> plan_;
  std::int64_t order_pass_ = -1;
  std::vector<std::int64_t> order_;
};

}  // namespace tenfold

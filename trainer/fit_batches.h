#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "datasets/length_buckets.h"
#include "trainer/array.h"
#include "trainer/fit_member.h"

namespace tenfold {

// Which samples the updates of a fit take. Fixed samples: the epoch's permutation, batch after batch. Sequences:
// batches of like length, of one padded length for all folds at each update (datasets/length_buckets.h), in an order
// that is drawn per epoch for all folds alike.
class FitBatches {
 public:
  explicit FitBatches(const ArrayMember& any_member);

  bool by_length() const { return plan_.has_value(); }
  std::vector<std::int64_t> padded_lengths() const;                     // that occur, ascending; {1} for fixed samples
  std::int64_t padded_length(std::int64_t epoch, std::int64_t update);  // update within the epoch

  struct Taken {
    std::span<const std::int64_t> samples;
    std::int64_t position;  // of the first one within the epoch: dropout is keyed by it
  };
  // Valid until the member's next epoch is asked for.
  Taken take(FitMember& member, std::int64_t epoch, std::int64_t update);

 private:
  const std::vector<std::int64_t>& order(std::int64_t epoch);

  std::uint64_t seed_;
  std::int64_t batch_size_;
  std::vector<std::int64_t> counts_;  // steps by sample
  std::optional<BatchPlan> plan_;
  std::int64_t order_epoch_ = -1;
  std::vector<std::int64_t> order_;  // of the epoch's batches
};

// A permutation of batches that is the same in every fold.
std::vector<std::int64_t> batch_order(std::uint64_t seed, Purpose purpose, std::int64_t epoch, std::int64_t batches);

}  // namespace tenfold

#pragma once

#include <cstdint>
#include <span>
#include <vector>

// Batches of sequences: what is near in length goes together, so that little is padding. Folds advance in step: the
// batch of a step has one padded length for all folds, so their fits can be computed as one array, and a fold's batches
// do not depend on which folds are beside it.
namespace tenfold {

// The padded lengths of a dataset: ascending, at most `buckets` of them, the last one the longest sample's. Chosen at
// equal shares of the samples, rounded up to a multiple of 8 (but never above the longest).
std::vector<std::int64_t> length_bounds(std::span<const std::int64_t> lengths, int buckets);

// The first bound that holds `length`: an index.
std::size_t bucket_of(std::span<const std::int64_t> bounds, std::int64_t length);

struct BatchPlan {
  // An epoch has updates() batches for every list, in this order of increasing length (the order in which they are
  // taken is drawn per epoch by the caller): batch j is padded to padded_length[j].
  std::vector<std::int64_t> padded_length;
  std::vector<std::int64_t> region;  // by batch: batches of one region take samples from one range of ranks in length
  std::int64_t updates() const { return static_cast<std::int64_t>(padded_length.size()); }
  std::vector<std::int64_t> distinct_lengths() const;  // that occur, ascending
};

// lists: the samples of the same part of every split. updates() = ceil(longest list / batch_size); a list's samples are
// dealt evenly, so no batch of any list is above batch_size. Regions are at most `buckets` runs of adjacent batches.
// padded_length is the smallest bound that holds the longest sample of the region in any of the lists.
BatchPlan plan_batches(std::span<const std::int64_t> lengths, std::span<const std::vector<std::int64_t>> lists,
                       std::int64_t batch_size, std::span<const std::int64_t> bounds, int buckets);

// One list's batches of an epoch by that plan, [updates()][samples]: sorted by (length, index), cut at the regions'
// shares, each region's samples put in the order that `order` gives (a permutation of the sorted list's places;
// identity for no shuffle) and dealt to its batches. Every sample is in exactly one batch; a list much shorter than the
// longest leaves batches empty. The order in which `list` stands does not matter.
std::vector<std::vector<std::int64_t>> deal_batches(const BatchPlan& plan, std::span<const std::int64_t> lengths,
                                                    std::span<const std::int64_t> list,
                                                    std::span<const std::int64_t> order);

}  // namespace tenfold

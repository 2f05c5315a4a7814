#include "datasets/length_buckets.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <tuple>

#include "experiments/error.h"

namespace tenfold {
namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

void require(bool condition, const std::string& what) {
  if (!condition) throw Error(ErrorKind::internal, "batches of sequences: " + what);
}

// A list's samples by (length, index): the order of its ranks.
std::vector<std::int64_t> by_length(std::span<const std::int64_t> lengths, std::span<const std::int64_t> list) {
  std::vector<std::int64_t> sorted(list.begin(), list.end());
  for (const std::int64_t i : sorted)
    require(i >= 0 && at(i) < lengths.size(), "sample " + std::to_string(i) + " has no length");
  std::sort(sorted.begin(), sorted.end(), [&](std::int64_t a, std::int64_t b) {
    return std::tuple(lengths[at(a)], a) < std::tuple(lengths[at(b)], b);
  });
  return sorted;
}

// The place of cut `part` where n things are divided evenly into `parts`. With n <= parts * size no run of parts gets
// more than its number times size.
std::int64_t cut(std::int64_t n, std::int64_t part, std::int64_t parts) { return n * part / parts; }

// First batch of each region, and the number of batches at the end.
std::vector<std::int64_t> region_begins(std::span<const std::int64_t> region) {
  std::vector<std::int64_t> begins;
  for (std::size_t j = 0; j < region.size(); ++j)
    if (j == 0 || region[j] != region[j - 1]) begins.push_back(static_cast<std::int64_t>(j));
  begins.push_back(static_cast<std::int64_t>(region.size()));
  return begins;
}

}  // namespace

std::vector<std::int64_t> length_bounds(std::span<const std::int64_t> lengths, int buckets) {
  require(!lengths.empty() && buckets >= 1, "bounds need lengths and at least one bucket");
  std::vector<std::int64_t> sorted(lengths.begin(), lengths.end());
  std::sort(sorted.begin(), sorted.end());
  const auto n = static_cast<std::int64_t>(sorted.size());
  std::vector<std::int64_t> bounds;
  for (std::int64_t b = 1; b <= buckets; ++b) {
    const std::int64_t last = std::max<std::int64_t>(cut(n, b, buckets), 1) - 1;
    const std::int64_t bound = std::min((sorted[at(last)] + 7) / 8 * 8, sorted.back());
    if (bounds.empty() || bound > bounds.back()) bounds.push_back(bound);
  }
  return bounds;
}

std::size_t bucket_of(std::span<const std::int64_t> bounds, std::int64_t length) {
  const auto found = std::lower_bound(bounds.begin(), bounds.end(), length);
  require(found != bounds.end(), "no bucket holds a length of " + std::to_string(length));
  return static_cast<std::size_t>(found - bounds.begin());
}

std::vector<std::int64_t> BatchPlan::distinct_lengths() const {
  std::vector<std::int64_t> lengths = padded_length;
  std::sort(lengths.begin(), lengths.end());
  lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
  return lengths;
}

BatchPlan plan_batches(std::span<const std::int64_t> lengths, std::span<const std::vector<std::int64_t>> lists,
                       std::int64_t batch_size, std::span<const std::int64_t> bounds, int buckets) {
  require(batch_size >= 1 && buckets >= 1, "a batch size and buckets of at least 1 are needed");
  std::size_t longest_list = 0;
  for (const auto& list : lists) longest_list = std::max(longest_list, list.size());
  const std::int64_t updates = (static_cast<std::int64_t>(longest_list) + batch_size - 1) / batch_size;
  const std::int64_t regions = std::min<std::int64_t>(buckets, updates);
  std::vector<std::int64_t> begins;
  for (std::int64_t r = 0; r <= regions && updates > 0; ++r) begins.push_back(cut(updates, r, regions));

  std::vector<std::int64_t> longest(at(regions), 0);  // by region, over all lists
  for (const auto& list : lists) {
    const std::vector<std::int64_t> sorted = by_length(lengths, list);
    const auto n = static_cast<std::int64_t>(sorted.size());
    for (std::int64_t r = 0; r < regions; ++r) {
      const std::int64_t end = cut(n, begins[at(r + 1)], updates);
      if (end > cut(n, begins[at(r)], updates))
        longest[at(r)] = std::max(longest[at(r)], lengths[at(sorted[at(end - 1)])]);
    }
  }
  BatchPlan plan;
  for (std::int64_t r = 0; r < regions; ++r) {
    const std::int64_t padded = bounds[bucket_of(bounds, longest[at(r)])], count = begins[at(r + 1)] - begins[at(r)];
    plan.padded_length.insert(plan.padded_length.end(), at(count), padded);
    plan.region.insert(plan.region.end(), at(count), r);
  }
  return plan;
}

std::vector<std::vector<std::int64_t>> deal_batches(const BatchPlan& plan, std::span<const std::int64_t> lengths,
                                                    std::span<const std::int64_t> list,
                                                    std::span<const std::int64_t> order) {
  require(order.size() == list.size(),
          "an order of " + std::to_string(order.size()) + " was given for " + std::to_string(list.size()) + " samples");
  const std::vector<std::int64_t> sorted = by_length(lengths, list);
  const auto n = static_cast<std::int64_t>(sorted.size());
  const std::int64_t updates = plan.updates();
  require(n == 0 || updates > 0, "samples were given to a plan without batches");
  const std::vector<std::int64_t> begins = region_begins(plan.region);
  std::vector<std::int64_t> ends;  // by region: the rank after its last
  for (std::size_t r = 1; r < begins.size() && updates > 0; ++r) ends.push_back(cut(n, begins[r], updates));

  std::vector<std::vector<std::int64_t>> of_region(ends.size());
  std::vector<bool> seen(sorted.size(), false);
  for (const std::int64_t rank : order) {
    require(rank >= 0 && rank < n && !seen[at(rank)], "the order is no permutation");
    seen[at(rank)] = true;
    const auto r = std::upper_bound(ends.begin(), ends.end(), rank) - ends.begin();
    of_region[static_cast<std::size_t>(r)].push_back(sorted[at(rank)]);
  }
  std::vector<std::vector<std::int64_t>> batches;
  for (std::size_t r = 0; r < of_region.size(); ++r) {
    const auto samples = static_cast<std::int64_t>(of_region[r].size()), count = begins[r + 1] - begins[r];
    for (std::int64_t j = 0; j < count; ++j)
      batches.emplace_back(of_region[r].begin() + cut(samples, j, count),
                           of_region[r].begin() + cut(samples, j + 1, count));
  }
  return batches;
}

}  // namespace tenfold

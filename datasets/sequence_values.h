#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "experiments/spec.h"

// What dataset.feature_ranges, max_length and transform do to sequences while they are loaded.
namespace tenfold {

struct ColumnRange {
  std::int64_t first, end;  // end not included
};

// The columns of a source that dataset.feature_ranges asks for, in the order given; all where it is empty. Throws
// Error(config) for a range that is none, that lies outside `features`, or that shares columns with another.
class ColumnSelection {
 public:
  ColumnSelection(const std::vector<std::string>& feature_ranges, std::int64_t features, const std::string& source);
  const std::vector<ColumnRange>& ranges() const { return ranges_; }
  std::int64_t count() const { return count_; }
  bool all() const { return all_; }

  // from: (steps, features), to: (steps, count()).
  void gather(std::span<const float> from, std::span<float> to) const;

 private:
  std::vector<ColumnRange> ranges_;
  std::int64_t features_, count_ = 0;
  bool all_;
};

// Steps of a sequence that are kept: all, or dataset.max_length.
std::int64_t kept_steps(const DatasetSpec& spec, std::int64_t steps);

// dataset.transform, in place; log1p is sign(x) log(1 + |x|), the same bits on every CPU. Throws Error(config) for
// another name.
void transform_values(std::span<float> values, const std::string& transform);

}  // namespace tenfold

#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "datasets/dataset.h"

namespace tenfold {

// x' = (x - offset) * scale per feature, fitted on the training part of a fold alone.
//   standard: offset = mean, scale = 1/sd (biased; 1 for a constant feature)
//   minmax:   offset = min,  scale = 1/(max - min)
//   robust:   offset = median, scale = 1/(interquartile range)  (of at most 100,000 evenly spaced steps; where the
//             range is 0, 1/sd of them)
//   none:     offset = 0,    scale = 1
// One-hot features keep offset 0 and scale 1, or scale 0 where the training part never saw the category.
// Images (channels, height, width) are fitted per channel for `standard` and `minmax`.
// Sequences are fitted over the steps of the training samples. By group every group of the dataset has a row of its
// own; a group that is not in the training part has its statistics from its own samples' features (no labels are read:
// a new session's recording is at hand when it is adapted to).
struct Normaliser {
  std::vector<float> offset;  // (rows, features), rows 1 or the number of groups
  std::vector<float> scale;   // (rows, features)
  std::int64_t rows = 1;
  static Normaliser fit(const Dataset& dataset, std::span<const std::int64_t> train_indices, const std::string& kind,
                        bool by_group = false);
  void apply(std::span<float> samples, std::int64_t row = 0) const;  // (n, features), in place
};

}  // namespace tenfold

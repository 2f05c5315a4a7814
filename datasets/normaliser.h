#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "datasets/dataset.h"

namespace tenfold {

// x' = (x - offset) * scale per feature, fitted on the training part of a fold alone.
//   standard: offset = mean, scale = 1/sd (biased; 1 for a constant feature)
//   minmax:   offset = min,  scale = 1/(max - min)
//   none:     offset = 0,    scale = 1
// One-hot features keep offset 0 and scale 1, or scale 0 where the training part never saw the category.
// Images (channels, height, width) are fitted per channel for `standard` and `minmax`.
struct Normaliser {
  std::vector<float> offset;  // (features)
  std::vector<float> scale;   // (features)
  static Normaliser fit(const Dataset& dataset, std::span<const std::int64_t> train_indices, const std::string& kind);
  void apply(std::span<float> samples) const;  // (n, features), in place
};

}  // namespace tenfold

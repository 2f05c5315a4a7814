#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "datasets/dataset.h"
#include "experiments/spec.h"

namespace tenfold {

// The samples at `indices` under `shift`, raw (before normalisation): (indices, features).
// Feature ranges (for noise and contrast) are fitted on `train_indices` alone: one range for images and for
// features of one unit, min..max per feature otherwise. One-hot features are left alone. Random numbers are
// Philox of (seed, shift, sample index, feature): a sample is shifted alike wherever it is held out.
// The strength of every kind at severity 1..5 is in the table of shift.cpp and in datasets/README.md.
// Throws Error(config) for translate, rotate or blur of samples that are not images.
std::vector<float> shifted_samples(const Dataset& dataset, std::span<const std::int64_t> indices,
                                   std::span<const std::int64_t> train_indices, const ShiftSpec& shift,
                                   std::uint64_t seed);

}  // namespace tenfold

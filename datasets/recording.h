#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace tenfold {

// The samples of a wav or flac file in memory: the mean of its channels, whole numbers
// scaled to [-1, 1). Throws Error(data) where the file is damaged, cut off, empty, not finite, or has another sample
// rate: resampling is not done in silence.
std::vector<float> read_recording(std::span<const std::byte> bytes, int sample_rate, const std::string& name);

}  // namespace tenfold

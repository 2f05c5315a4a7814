#pragma once

#include <string>

#include "datasets/dataset.h"

namespace tenfold {

// Cuts parts.tokens into samples: sample i covers the tokens from i * L to i * L + L, of which the first L are inputs
// and the last L targets, so that every token but the first is predicted once. The last sample may be shorter.
// Throws Error(data) where there are fewer than two tokens.
void cut_into_windows(Dataset::Parts& parts, int sequence_length, const std::string& name);

}  // namespace tenfold

#pragma once

#include <cstdint>
#include <vector>

#include "experiments/records.h"
#include "trainer/model.h"

namespace tenfold {

// The gates of a model's TTT layers, tanh(alpha) over channels, of member k: one row per gated layer, none where the
// model has no gates.
std::vector<GateRow> gate_rows(const ModelLayout& layout, const ModelState& state, std::int64_t k, std::int64_t step);

}  // namespace tenfold

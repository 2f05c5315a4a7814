#pragma once

#include <cstdint>

#include "trainer/model_layout.h"

// Parameters of the recurrent models: ttt_rnn, gru, lstm.
namespace tenfold {

// Throws Error(config) where the model cannot be made.
ModelLayout recurrent_layout(const ModelSpec& spec, std::int64_t features, int classes);

}  // namespace tenfold

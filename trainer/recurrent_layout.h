#pragma once

#include <cstdint>

#include "trainer/model_layout.h"

// Parameters of the recurrent models: ttt_rnn, gru, lstm.
namespace tenfold {

// For layer i, with its inputs in (features, or the units of all directions of the layer below):
//   ttt_rnn: `layers.<i>.phi` and `.psi` [in + units, units], rows of the input first; `.encoder.0` [units, 4 units]
//   and
//     `.encoder.1` [4 units, units] (mlp_1: `.encoder.0` [units, units] alone); `.g`, `.h` [units, units]; each with
//     `.weight` and `.bias`; `.ln.weight`, `.ln.bias` [units] with decoder_ln. In front of layer 0's: `initial_state`
//     [1, units]. All of them are of the group ttt.
//   gru, lstm: `layers.<i>.input` [in, gates * units] and `.hidden` [units, gates * units] with `.weight` and `.bias`;
//   the
//     gates in torch.nn's order: reset, update, new; input, forget, cell, output.
// Bidirectional: the second direction's follow, named `layers.<i>.reverse.<...>` (and
// `layers.0.reverse.initial_state`). At last `readout.weight` [directions * units, classes] and `readout.bias`.
// Throws Error(config) where the model cannot be made.
ModelLayout recurrent_layout(const ModelSpec& spec, std::int64_t features, int classes);

}  // namespace tenfold

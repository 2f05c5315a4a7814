#pragma once

#include <string>
#include <vector>

#include "trainer/model_layout.h"

// Parameters of the language models: ttt_lm, transformer_lm.
namespace tenfold {

// Throws Error(config) where the model cannot be made.
ModelLayout language_layout(const ModelSpec& spec, int vocabulary);

// Which of `count` layers a placement (model.ttt.layers) means, ascending: none; all; early, middle, late (a third
// each); every:N (layers N-1, 2N-1, ...); first:N; last:N; indices, negative from the end. A list is the union. Throws
// Error(config).
std::vector<int> placed_layers(const std::vector<std::string>& patterns, int count, const std::string& key);

}  // namespace tenfold

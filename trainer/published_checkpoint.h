#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "experiments/spec.h"
#include "trainer/model.h"

// Checkpoints of language models as they are published: safetensors, whole or in shards, parameters by name.
namespace tenfold {

struct PublishedModel {
  ModelSpec spec;
  int vocabulary = 0;
};

// What a folder's config.json says: of a TTT language model (ttt_layer_type), or of a Llama-style transformer. Throws
// Error(data) where the file cannot be read or the model is one that is not made here, such as grouped queries.
PublishedModel read_published_config(const std::filesystem::path& folder);

struct PublishedParameters {
  // Those of groups that the file has nothing of (TTT layers, gates, LoRA added to a published model): they keep their
  // values.
  std::vector<std::string> kept;
};

// Parameters by name into all K members of `state`. path: a .safetensors file, a model.safetensors.index.json beside
// its shards, or a folder with model.safetensors or such an index. F64, F32, F16 and BF16 are taken. Throws Error(data)
// that lists what is missing, what the model does not have and what has another shape; tables that follow from others
// (rotary frequencies, a tied head) are passed over. keep_missing_ttt: parameters of TTT layers and their gates may
// also be missing one by one, for a diagnosis to name them.
PublishedParameters load_published_parameters(const std::filesystem::path& path, const ModelLayout& layout,
                                              ModelState& state, bool keep_missing_ttt = false);

}  // namespace tenfold

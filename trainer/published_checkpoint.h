#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "trainer/model.h"
#include "trainer/published_config.h"

// Checkpoints of language models as they are published: safetensors, whole or in shards, parameters by name.
namespace tenfold {

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

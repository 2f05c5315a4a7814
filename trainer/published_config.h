#pragma once

#include <filesystem>

#include "experiments/spec.h"

namespace tenfold {

struct PublishedModel {
  ModelSpec spec;
  int vocabulary = 0;
};

// What a folder's config.json says: of a TTT language model (ttt_layer_type), or of a Llama-style transformer. Throws
// Error(data) where the file cannot be read or the model is one that is not made here, such as grouped queries.
PublishedModel read_published_config(const std::filesystem::path& folder);
PublishedModel read_published_config_file(const std::filesystem::path& file);

}  // namespace tenfold

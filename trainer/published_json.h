#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>

namespace tenfold {

// The JSON object in a file beside a published checkpoint, of at most 64 MB. Throws Error(data).
nlohmann::json read_published_json(const std::filesystem::path& file);

}  // namespace tenfold

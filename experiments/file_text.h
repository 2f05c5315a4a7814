#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace tenfold {

// All bytes of a file; none where it cannot be opened or read to its end: a folder, no permission, or in /proc a
// process that ended meanwhile. For files of ours and of the system: there is no limit to what is read.
std::optional<std::string> file_text(const std::filesystem::path& file);

}  // namespace tenfold

#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace tenfold {

struct CollectionLimits {
  std::uint64_t file_bytes = std::uint64_t{1} << 30;     // of a file that is read
  std::uint64_t archive_bytes = std::uint64_t{1} << 40;  // of all files of an archive, unpacked
};

struct FoundFile {
  std::string name;   // below the folder, or as the archive has it
  std::string place;  // what messages call it: folder/name, or archive: name
  std::span<const std::byte> bytes;
};

// Calls `visit` for each file below a folder, or in a tar archive (plain or compressed with gzip, bzip2, xz or zstd),
// whose name ends in one of `endings` (lower case; the name may have any), in any order. Hidden files are left out.
// Nothing is ever written, so an archive's absolute or climbing names are names like others. Throws Error(data).
void for_each_file(const std::filesystem::path& path, std::span<const std::string_view> endings,
                   const std::function<void(const FoundFile&)>& visit, const CollectionLimits& limits = {});

}  // namespace tenfold

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

// Calls visit(name, bytes) for each file below a folder, or in a tar archive (plain or compressed with gzip, bzip2, xz
// or zstd), whose name ends in one of `endings` (lower case; the name may have any). Hidden files are left out. Names
// are relative to the folder, and in an archive as it has them: nothing is ever written, so an archive's absolute or
// climbing names are names like others. The order is any. Throws Error(data).
void for_each_file(const std::filesystem::path& path, std::span<const std::string_view> endings,
                   const std::function<void(const std::string& name, std::span<const std::byte> bytes)>& visit,
                   const CollectionLimits& limits = {});

}  // namespace tenfold

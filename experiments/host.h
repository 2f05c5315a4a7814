#pragma once

#include <filesystem>
#include <string>

namespace tenfold {

std::string host_name();  // "unknown" where the system does not say

// Of the kernel that runs here, new with every start of the machine: host names may coincide. Empty where it has none.
std::string boot_id();

// For files of the moment: TMPDIR, else /tmp. Throws Error(storage) where that is no folder.
std::filesystem::path temporary_folder();

}  // namespace tenfold

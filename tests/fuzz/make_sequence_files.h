#pragma once

#include <filesystem>

namespace tenfold::fuzz {

// Small sound files of every form that is read, written by the libraries themselves.
void make_hdf5_files(const std::filesystem::path& folder);
void make_mat_files(const std::filesystem::path& folder);

}  // namespace tenfold::fuzz

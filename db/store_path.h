#pragma once

#include <filesystem>

namespace tenfold {

// The file that a store's name means. Everything about a store is named after its file (the run lock, the lease, the
// checkpoints, SQLite's log), so whoever takes a name from the user asks here first: a link's own name would have
// another lock and other checkpoints than the file that it leads to. A link is followed even where nothing is at its
// end yet; a name that is none is kept as it was typed. Throws Error(config): links lead in a circle.
std::filesystem::path store_path(const std::filesystem::path& named);

}  // namespace tenfold

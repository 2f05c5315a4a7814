#pragma once

#include <filesystem>

#include "runner/child.h"
#include "runner/hosts.h"
#include "runner/rank_settings.h"

namespace tenfold {

// mpirun with one coordinator, on this host, and the workers of `layout`, in a session of its own, dying with us. Its
// output and that of the ranks goes to `log`. Throws Error(communication) when there is no mpirun.
ChildProcess start_mpirun(const RankOptions& options, const HostLayout& layout,
                          const std::filesystem::path& private_folder, const std::filesystem::path& log);

}  // namespace tenfold

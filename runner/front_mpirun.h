#pragma once

#include <filesystem>

#include "runner/child.h"
#include "runner/hosts.h"
#include "runner/rank_settings.h"

namespace tenfold {

// Whether mpirun has to start something elsewhere: on the hosts that we name, or on those of its allocation.
bool several_hosts(const HostLayout& layout);

// mpirun with one coordinator, on this host, and the workers of `layout`, in a session of its own, dying with us. Its
// output and that of the ranks goes to `log`. Throws Error(communication) when there is no mpirun.
ChildProcess start_mpirun(const RankOptions& options, const HostLayout& layout,
                          const std::filesystem::path& private_folder, const std::filesystem::path& log);

}  // namespace tenfold

#pragma once

namespace tenfold {

// Where MPI keeps its segments on a host, for the ranks there.
inline constexpr const char* kHostFolderVariable = "TENFOLD_HOST_FOLDER";

// What mpirun starts by ssh on every other host of a run (hidden command `host-agent`), around Open MPI's daemon, whose
// command line it is given. It makes a private folder on that host. It ends a daemon whose workers have gone, which
// without a link would stay for as long as TCP takes to notice. And it lets the ssh end as soon as there are workers:
// mpirun takes the end of an ssh by an error, as when its host dies, for a failure of the whole run. Returns 0 then,
// the daemon's exit code otherwise.
int run_host_agent(int argc, char** argv);

}  // namespace tenfold

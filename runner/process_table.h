#pragma once

#include <sys/types.h>

#include <vector>

// What /proc says of processes that are not zombies.
namespace tenfold {

int live_children(pid_t parent);
bool has_children(pid_t parent);
std::vector<pid_t> processes_of_session(pid_t session);

}  // namespace tenfold

#pragma once

#include "runner/command_line_options.h"

namespace tenfold {

// `tenfold submit` and `tenfold merge`.
void add_cluster_commands(CLI::App& app, Action& action);

}  // namespace tenfold

#pragma once

#include <string>
#include <vector>

namespace tenfold {

// Parses the command line, runs the command and returns the program's exit code. Throws Error(config) for a
// mistake on the command line, and whatever the command throws.
int run_command_line(int argc, char** argv);

// The candidate that `word` is most likely a mistyping of; empty when none is near.
std::string closest(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace tenfold

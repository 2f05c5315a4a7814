#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace tenfold {

// What a user's cluster needs in every batch script: ~/.config/tenfold/site.yaml, described in slurm/README.md.
struct ClusterSite {
  std::vector<std::string> modules;  // module load ...
  std::vector<std::pair<std::string, std::string>> environment;
  std::vector<std::string> setup;      // lines of shell, as they are
  std::vector<std::string> container;  // words before the program
  std::vector<std::string> sbatch;     // further options, each beginning with --
  std::string partition, account;      // where the command line names none
  std::string launcher = "mpirun";     // mpirun srun
  std::string program;                 // on the nodes; empty: the one that submits
  double signal_s = 120;               // before the time limit
};

// $TENFOLD_SITE, or $XDG_CONFIG_HOME/tenfold/site.yaml, or ~/.config/tenfold/site.yaml.
std::filesystem::path site_file();

// Defaults when there is no such file. Throws Error(config) with all problems of the file, with their places.
ClusterSite read_site(const std::filesystem::path& file);

}  // namespace tenfold

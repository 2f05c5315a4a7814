#pragma once

#include <filesystem>
#include <iosfwd>
#include <string>
#include <vector>

#include "experiments/shard.h"

namespace tenfold {

struct PlanOptions {
  std::filesystem::path experiment_file;
  std::vector<std::string> overrides;
  std::filesystem::path db = "tenfold.db";
  int slots = 0;       // 0: as the file says
  std::string device;  // empty: as the file says
  bool share_fits = true;
  Shard shard;                  // --shard: `db` is its own already
  std::string format = "text";  // text json
};

// `tenfold plan`: what a run would do, what the store already has, how long the rest takes. Writes nothing but the
// dataset's cache.
int plan_command(const PlanOptions& options, std::ostream& out);

}  // namespace tenfold

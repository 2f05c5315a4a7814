#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace tenfold {

struct MergeSummary {
  std::int64_t fits_taken = 0, trials_taken = 0;  // came from the shards, done or failed
  std::int64_t trials_known = 0;                  // were done in the store already, with equal results
  std::int64_t trials_done = 0, trials_failed = 0, trials_open = 0;  // of the merged experiments, in the end
  std::vector<std::string> notes;  // checkpoints that were lost, fits that are computed again for it
};

// Brings the stores of shards (experiments/shard.h) together in `out`, which is made when it does not exist. Fits and
// trials of each experiment's current revision are known by their identities: what is done in several stores must have
// equal results, what is done in one replaces what is not in another, and nothing is there twice, however often this is
// called. Kept checkpoints are copied as well; one whose file is missing or damaged is left out, and a fit whose
// trained parameters are still needed and lost is pending again. Each shard is one transaction; nothing is written to
// it or beside it. Throws Error(storage): a store is in use, another results version, another version of the
// experiment, results that differ (all of them named).
MergeSummary merge_stores(const std::filesystem::path& out, const std::vector<std::filesystem::path>& shards);

}  // namespace tenfold

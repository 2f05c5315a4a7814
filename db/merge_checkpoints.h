#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "db/sqlite.h"

namespace tenfold {

// Files that a merge (merge.h) could not take over, and what comes of that. The shard is attached as `shard`; units to
// be taken are in temp.take_fit and temp.take_trial (old: its id in the shard, new: here).
struct LostCheckpoint {
  std::string path, sha256;  // as the shard's rows have them
  std::string reason;
};

// Takes fits out of temp.take_fit that an earlier merge took and reopened for want of these files, if it would have to
// do so again: to be taken twice would repeat their attempts and drop what was computed of them here since.
void leave_out_fits_still_lost(Connection& db, const std::filesystem::path& from_folder,
                               const std::filesystem::path& to_folder);

// Copies the files of all checkpoints of units to be taken, so that they are on the disk before rows name them. Those
// that are missing or not what their rows say are in the result, and in temp.lost_checkpoint(path, sha256).
// Throws Error(storage): they cannot be written.
std::vector<LostCheckpoint> copy_checkpoint_files(Connection& db, const std::filesystem::path& from_folder,
                                                  const std::filesystem::path& to_folder);

// After rows are taken: fits that are done but whose trained parameters were lost, while a trial still has to start
// from them, are pending again. Returns what to tell of each.
std::vector<std::string> reopen_fits_without_parameters(Connection& db);

}  // namespace tenfold

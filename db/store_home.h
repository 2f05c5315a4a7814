#pragma once

#include <atomic>
#include <filesystem>
#include <optional>

#include "db/run_lock.h"
#include "experiments/held_folder.h"

namespace tenfold {

// Where a store is written. On a local file system that is the file that the user named. On a network file system the
// live database lies in a folder of its own on this node ($SLURM_TMPDIR, $TMPDIR or /tmp), and consistent copies of it
// are published under the user's name, whole, by rename; readers on any host read those. A run begins with the
// published copy, never with what a dead run left on a node: only of the copy is it known that the checkpoint files
// which it names are all there.
class StoreHome {
 public:
  // Under `lock`, which must outlive it. Brings the published copy here. Throws Error(storage).
  StoreHome(const std::filesystem::path& db, const RunLock& lock);
  StoreHome(const StoreHome&) = delete;
  StoreHome& operator=(const StoreHome&) = delete;

  bool is_published() const { return folder_.has_value(); }
  const std::filesystem::path& db() const { return db_; }      // as the user named it
  const std::filesystem::path& live() const { return live_; }  // what is opened for writing
  std::string taken_from() const { return lock_.taken_from(); }

  // What is committed in live() becomes what others read; durable when it returns. Nothing to do on a local file
  // system. Throws Error(storage): it cannot be written, or another host has taken the store over.
  void publish() const;

  // Whether the last publication found that another host has the store.
  bool is_lost() const { return lost_; }

  // The last publication failed for good: the live database is kept. Returns where.
  std::filesystem::path keep_live();

 private:
  std::filesystem::path db_, live_;
  void confirm_lock() const;
  const RunLock& lock_;
  mutable std::atomic<bool> lost_ = false;
  std::optional<HeldFolder> folder_;  // of the live database; none: it is written in place
};

}  // namespace tenfold

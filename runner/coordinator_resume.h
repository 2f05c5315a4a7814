#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "db/store.h"
#include "trainer/protocol.h"

namespace tenfold {

// Which of a unit's checkpoints can be trusted: the file is there and its SHA-256 is the recorded one. A stacked file
// is read once, however many members it has.
class CheckpointCheck {
 public:
  using Hash = std::function<std::string(const std::string& file)>;  // SHA-256; throws Error
  CheckpointCheck(std::filesystem::path folder, Hash hash) : folder_(std::move(folder)), hash_(std::move(hash)) {}

  // Drops what cannot be used from `checkpoints` (newest first) until the newest is good. Returns why each was
  // dropped, for the record.
  std::vector<std::string> keep_usable(std::vector<StoredCheckpoint>& checkpoints);

  void trust(const std::string& path) { good_[path] = true; }  // written and hashed in this run
  void look_again(const std::string& path) { good_.erase(path); }
  CheckpointRef reference(const StoredCheckpoint& checkpoint) const;
  const std::filesystem::path& folder() const { return folder_; }

 private:
  bool good(const StoredCheckpoint& checkpoint, std::string& reason);

  std::filesystem::path folder_;  // absolute
  Hash hash_;
  std::unordered_map<std::string, bool> good_;
};

}  // namespace tenfold

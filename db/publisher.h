#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "db/store_home.h"

namespace tenfold {

// Publishes a store's commits in the background: soon after those that hold a checkpoint, others every few seconds, and
// never for more than a fifth of the time. A publication that fails is tried again; only losing the store to another
// host is an error. For stores that are not published it does nothing.
class Publisher {
 public:
  explicit Publisher(StoreHome& home);  // which must outlive it
  Publisher(const Publisher&) = delete;
  Publisher& operator=(const Publisher&) = delete;
  ~Publisher();

  // Something is durable in the live store. Throws Error(storage) when another host has taken the store over.
  void committed(bool checkpoint);
  // Files that no row names any more after the next commit: removed once that is published, for until then a resume may
  // need them.
  void remove_when_published(std::vector<std::filesystem::path> files);
  // What is committed now is published when it returns. Throws Error(storage), naming where the live store is kept.
  void finish();
  // What went wrong since the last call, for the user.
  std::vector<std::string> take_problems();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tenfold

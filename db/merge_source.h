#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace tenfold {

// A shard's store to be read, without a byte changed in it or a file made beside it. As it lies, where that is all
// there is to it; where its last commits are still in a log, or its schema is older, a copy of it is read.
class MergeSource {
 public:
  // Throws Error(storage): there is none, it is in use, no space for a copy.
  explicit MergeSource(const std::filesystem::path& store);
  ~MergeSource();
  MergeSource(const MergeSource&) = delete;
  MergeSource& operator=(const MergeSource&) = delete;

  const std::filesystem::path& store() const { return store_; }  // as the user named it; checkpoints are beside it
  std::string uri() const;                                       // for SQLite, read only
  // Throws Error(storage) where somebody has written to it since: what was read of it may not belong together.
  void confirm() const;

 private:
  struct Stamp {
    std::uintmax_t bytes = 0, log_bytes = 0;
    std::filesystem::file_time_type written;
    bool operator==(const Stamp&) const = default;
  };
  static Stamp stamp_of(const std::filesystem::path& store);
  bool needs_copy() const;
  void copy();

  std::filesystem::path store_, folder_;  // of the copy; empty: none
  Stamp stamp_;
};

}  // namespace tenfold

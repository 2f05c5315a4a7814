#pragma once

#include <cstddef>
#include <filesystem>

#include "experiments/unique_fd.h"

namespace tenfold {

// A file that is written under another name beside its target, and removed unless commit() gave it its name: whoever
// opens the target finds the old file or the whole new one. Throws Error(storage), naming the target.
class FileAside {
 public:
  explicit FileAside(const std::filesystem::path& target);
  ~FileAside();
  FileAside(const FileAside&) = delete;
  FileAside& operator=(const FileAside&) = delete;

  void write(const void* data, std::size_t bytes);
  // With sync, file and folder are on the disk when it returns.
  void commit(bool sync);

 private:
  std::filesystem::path target_, aside_;
  UniqueFd fd_;
  bool committed_ = false;
};

// After a rename to `file`: on the disk. Throws Error(storage), naming the folder.
void sync_folder_of(const std::filesystem::path& file);

}  // namespace tenfold

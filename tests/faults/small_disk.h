#pragma once

#include <filesystem>
#include <string>

namespace tenfold {

// A file system of a few megabytes (tmpfs), mounted for one test. Where mounting is not permitted mounted() is false
// and the test has to be skipped.
class SmallDisk {
 public:
  SmallDisk(const std::filesystem::path& folder, std::size_t bytes);
  ~SmallDisk();
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  bool mounted() const { return mounted_; }
  const std::filesystem::path& folder() const { return folder_; }
  void fill() const;  // to the last byte; may be called again when something was freed
  void free() const;
  bool make_read_only(bool read_only) const;  // false: something is open for writing

 private:
  std::filesystem::path folder_;
  bool mounted_ = false;
};

}  // namespace tenfold

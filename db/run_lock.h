#pragma once

#include <filesystem>
#include <string>

namespace tenfold {

// One run at a time on a store. The lock is the kernel's (on <db>.lock) and ends with the process, however that
// ends; the file's content only tells others who holds it.
class RunLock {
 public:
  // Throws Error(storage) naming the holder when another process has it. `experiment` is shown to others.
  static RunLock acquire(const std::filesystem::path& db, const std::string& experiment = "");
  RunLock(RunLock&& other) noexcept;
  RunLock& operator=(RunLock&& other) noexcept;
  ~RunLock();

 private:
  explicit RunLock(int fd) : fd_(fd) {}
  int fd_ = -1;
};

}  // namespace tenfold

#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "db/lease.h"
#include "experiments/unique_fd.h"

namespace tenfold {

// One run at a time on a store. The lock is the kernel's (on <db>.lock) and ends with the process, however that
// ends; the file's content only tells others who holds it. On network file systems a lease (lease.h) beside it tells
// other hosts.
class RunLock {
 public:
  // Throws Error(storage) naming the holder when another process has it. `experiment` is shown to others; `tell` gets
  // a line where a lease has to be waited for.
  static RunLock acquire(const std::filesystem::path& db, const std::string& experiment = "",
                         const Lease::Tell& tell = nullptr);
  // As Lease::confirm(): throws LeaseLost when another host has taken the store over meanwhile.
  void confirm() const;
  std::string taken_from() const;  // as Lease::taken_from()
  RunLock(RunLock&& other) noexcept = default;
  RunLock& operator=(RunLock&& other) noexcept;

 private:
  friend std::optional<std::string> run_lock_holder(const std::filesystem::path& db);
  explicit RunLock(int fd) : fd_(fd) {}
  UniqueFd fd_;
  // None on local file systems. It goes first: whoever gets the kernel's lock then finds no lease of ours.
  std::unique_ptr<Lease> lease_;
};

// Who has the store now, "pid 123 on host x since ..."; empty when nobody has. Only looks: takes no lock, waits for
// none and makes no file. Throws Error(storage) when the lock's file cannot be read.
std::optional<std::string> run_lock_holder(const std::filesystem::path& db);

}  // namespace tenfold

#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "experiments/error.h"

namespace tenfold {

// Another run has taken the store over.
class LeaseLost : public Error {
 public:
  explicit LeaseLost(const std::string& what) : Error(ErrorKind::storage, what) {}
};

// Who has a store, for other hosts to see, where the kernel's locks end at this one: a file <db>.lease that its holder
// touches every few seconds. It is a file and no row of the store, for until somebody holds the lease nobody may write
// the store. Ages are measured by the file system's own clock, so hosts need not agree on the time.
//
// A holder that could not touch it for longer than the lease (30 s; $TENFOLD_LEASE_S) may lose it to another run, and
// learns of that from confirm().
class Lease {
 public:
  using Tell = std::function<void(const std::string&)>;  // what a waiting user wants to know

  // `holder` is JSON about this process. A lease that nobody touches any more is waited for, `tell` says so, and taken
  // over; `same_kernel_is_dead`: the caller has the kernel's lock, so a holder on this very host cannot be alive.
  // Throws Error(storage): the holder lives, or the file cannot be written.
  static std::unique_ptr<Lease> take(const std::filesystem::path& db, const std::string& holder,
                                     bool same_kernel_is_dead, const Tell& tell);
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease();  // given back

  // Renews it. Throws LeaseLost when another run has it now, and Error(storage) where that cannot be seen at the
  // moment.
  void confirm();
  // Whose it was, and why it was taken from them; empty when nobody left one behind.
  const std::string& taken_from() const;

 private:
  struct Impl;
  explicit Lease(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// What the holder of a lease that has not run out said of itself (JSON, or nonsense). Only looks.
// `same_kernel_is_dead` as above.
std::optional<std::string> lease_holder(const std::filesystem::path& db, bool same_kernel_is_dead);

// "pid 123 on host x since ... (experiment y)" from such a text; a hint, whatever it holds.
std::string describe_holder(const std::string& holder);

}  // namespace tenfold

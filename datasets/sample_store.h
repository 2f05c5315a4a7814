#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "datasets/dataset.h"
#include "experiments/unique_fd.h"

namespace tenfold {

// Room for the values of a dataset while it is loaded: memory, or, where they are more than a quarter of it, a file
// without a name in the cache folder, whose pages the system writes out and takes back as it needs to. So what is
// filled in order needs little memory, however large it is.
class SampleStore {
 public:
  // name: what messages call the dataset. Throws Error(data) or, where the disk is full, Error(storage).
  SampleStore(std::int64_t values, const std::string& name);
  SampleStore(std::int64_t values, const std::string& name, std::uint64_t memory_bytes);  // more than these: on disk
  // What another process has filled: `file` is its Parts::stored_fd.
  SampleStore(UniqueFd file, std::int64_t values, const std::string& name);
  std::span<float> values() const { return values_; }
  bool on_disk() const { return on_disk_; }

  // Makes them the samples of `parts`.
  void give_to(Dataset::Parts& parts) &&;

 private:
  void map(UniqueFd file, std::int64_t values);

  std::shared_ptr<void> owner_;
  int fd_ = -1;  // the owner's
  std::span<float> values_;
  bool on_disk_ = false;
};

}  // namespace tenfold

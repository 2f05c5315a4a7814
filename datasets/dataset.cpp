#include "datasets/dataset.h"

#include <pwd.h>
#include <unistd.h>

#include <bit>
#include <cstdlib>

#include "datasets/loaders.h"
#include "experiments/error.h"

static_assert(std::endian::native == std::endian::little, "file formats are read as little-endian memory");

namespace tenfold {

std::int64_t Dataset::size() const {
  return static_cast<std::int64_t>(kind_ == SampleKind::fixed ? labels_.size() : starts_.size());
}

std::int64_t Dataset::steps(std::int64_t i) const {
  if (kind_ == SampleKind::fixed) return 1;
  const std::int64_t length = lengths_[static_cast<std::size_t>(i)];
  return kind_ == SampleKind::tokens ? length - 1 : length;
}

std::int64_t Dataset::features() const {
  std::int64_t product = 1;
  for (const std::int64_t dimension : sample_shape_) product *= dimension;
  return product;
}

std::span<const float> Dataset::sample(std::int64_t i) const {
  const auto width = static_cast<std::size_t>(features()), at = static_cast<std::size_t>(i);
  if (kind_ == SampleKind::fixed) return samples_.subspan(at * width, width);
  return samples_.subspan(static_cast<std::size_t>(starts_[at]) * width,
                          static_cast<std::size_t>(lengths_[at]) * width);
}

Dataset::Dataset(Parts parts) {
  const auto owner = std::make_shared<const Parts>(std::move(parts));
  storage_ = owner;
  sample_shape_ = owner->sample_shape;
  samples_ = owner->stored_samples.empty() ? std::span<const float>(owner->samples) : owner->stored_samples;
  labels_ = owner->labels;
  groups_ = owner->groups;
  given_folds_ = owner->given_folds;
  class_names_ = owner->class_names;
  one_hot_ = owner->one_hot;
  kind_ = owner->kind;
  label_kind_ = owner->label_kind;
  tokens_ = owner->tokens;
  token_bytes_ = owner->token_bytes;
  starts_ = owner->starts;
  lengths_ = owner->lengths;
  group_names_ = owner->group_names;
  validate_dataset(*this);
  fingerprint_ = dataset_fingerprint(*this);
}

std::filesystem::path cache_folder() {
  if (const char* folder = std::getenv("TENFOLD_CACHE"); folder != nullptr && *folder != '\0') return folder;
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0')
    return std::filesystem::path(home) / ".cache" / "tenfold";
  passwd entry{};
  passwd* found = nullptr;
  std::vector<char> buffer(16384);
  if (::getpwuid_r(::getuid(), &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr)
    return std::filesystem::path(found->pw_dir) / ".cache" / "tenfold";
  throw Error(ErrorKind::config, "there is no home folder to keep the cache in; set TENFOLD_CACHE to a folder");
}

}  // namespace tenfold

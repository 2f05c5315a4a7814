#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "experiments/hash.h"
#include "experiments/spec.h"

namespace tenfold {

// Samples in memory (owned or memory-mapped), raw: before normalisation and shift. Text columns of a csv
// are expanded to one 0/1 feature per category of the whole file; what a fold has not seen in training is
// silenced by its Normaliser, so the width is the same in every fold and nothing of the held-out part leaks.
class Dataset {
 public:
  std::int64_t size() const { return static_cast<std::int64_t>(labels_.size()); }  // N
  const std::vector<std::int64_t>& sample_shape() const { return sample_shape_; }  // (F) or (C, H, W)
  std::int64_t features() const;                                                   // product of the sample shape
  int classes() const { return static_cast<int>(class_names_.size()); }
  std::span<const float> samples() const { return samples_; }  // (N, features) row-major
  std::span<const float> sample(std::int64_t i) const;
  std::span<const std::int64_t> labels() const { return labels_; }            // (N) in [0, classes)
  std::span<const std::int64_t> groups() const { return groups_; }            // (N) or empty
  std::span<const std::int64_t> given_folds() const { return given_folds_; }  // (N) or empty: predefined
  const std::vector<std::string>& class_names() const { return class_names_; }
  const std::vector<bool>& one_hot() const { return one_hot_; }  // (features) or empty: none is
  bool is_image() const { return sample_shape_.size() == 3; }
  Digest fingerprint() const { return fingerprint_; }  // of all of the above

  struct Parts {
    std::vector<std::int64_t> sample_shape;
    std::vector<float> samples;
    std::vector<std::int64_t> labels, groups, given_folds;
    std::vector<std::string> class_names;
    std::vector<bool> one_hot;
  };
  explicit Dataset(Parts parts);  // computes the fingerprint; throws Error(data) on inconsistent sizes

 private:
  friend Dataset read_cached_dataset(const std::filesystem::path&);
  Dataset() = default;
  std::vector<std::int64_t> sample_shape_;
  std::shared_ptr<const void> storage_;  // what the spans point into
  std::span<const float> samples_;
  std::span<const std::int64_t> labels_, groups_, given_folds_;
  std::vector<std::string> class_names_;
  std::vector<bool> one_hot_;
  Digest fingerprint_;
};

// Reads the source that `spec` names. Throws Error(data): file, line where there is one, what to do.
Dataset load_dataset(const DatasetSpec& spec);

// The cache of a loaded dataset: `<folder>/<fingerprint>.safetensors`, written aside and renamed, read by
// mmap. Trainers open it instead of parsing the source again.
std::filesystem::path write_cached_dataset(const Dataset& dataset, const std::filesystem::path& folder);
Dataset read_cached_dataset(const std::filesystem::path& file);

// What tenfold keeps between runs (downloaded data, dataset caches): $TENFOLD_CACHE or ~/.cache/tenfold.
std::filesystem::path cache_folder();

}  // namespace tenfold

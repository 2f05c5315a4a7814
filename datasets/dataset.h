#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "experiments/hash.h"
#include "experiments/sample_kind.h"
#include "experiments/spec.h"

namespace tenfold {

// Samples in memory (owned or memory-mapped), raw: before normalisation and shift, after dataset.feature_ranges,
// max_length and transform. Sequences lie one after another: step t of sample i is row starts()[i] + t of samples(), or
// that element of tokens(); samples may overlap (windows of a text share the token between them). Text columns of a csv
// are expanded to one 0/1 feature per category of the whole file; what a fold has not seen in training is
// silenced by its Normaliser, so the width is the same in every fold and nothing of the held-out part leaks.
class Dataset {
 public:
  std::int64_t size() const;  // N
  SampleKind kind() const { return kind_; }
  LabelKind label_kind() const { return label_kind_; }
  // Of a sample, or of one step of a sequence: (F) or (C, H, W); (1) for tokens.
  const std::vector<std::int64_t>& sample_shape() const { return sample_shape_; }
  std::int64_t features() const;  // product of the sample shape
  int classes() const { return static_cast<int>(class_names_.size()); }
  // (N, features) row-major; (steps, features) of sequences; empty for tokens
  std::span<const float> samples() const { return samples_; }
  std::span<const float> sample(std::int64_t i) const;              // all its steps
  std::span<const std::int32_t> tokens() const { return tokens_; }  // (steps) in [0, classes), or empty
  std::span<const std::int64_t> starts() const { return starts_; }  // (N) of sequences and tokens, else empty
  std::span<const std::int64_t> lengths() const {
    return lengths_;
  }                                          // (N) steps; of tokens with the last target: L + 1
  std::int64_t steps(std::int64_t i) const;  // inputs of sample i: 1 if fixed, L of tokens
  // (N) in [0, classes); (steps) in [-1, classes) beside samples() where label_kind() is step; empty for next_token
  std::span<const std::int64_t> labels() const { return labels_; }
  std::span<const std::int32_t> token_bytes() const {
    return token_bytes_;
  }  // (classes) UTF-8 bytes of a token, or empty
  const std::vector<std::string>& group_names() const { return group_names_; }  // of sessions, speakers; or empty
  std::span<const std::int64_t> groups() const { return groups_; }              // (N) or empty
  std::span<const std::int64_t> given_folds() const { return given_folds_; }    // (N) or empty: predefined
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
    SampleKind kind = SampleKind::fixed;
    LabelKind label_kind = LabelKind::sample;
    std::vector<std::int32_t> tokens = {}, token_bytes = {};
    std::vector<std::int64_t> starts = {}, lengths = {};
    std::vector<std::string> group_names = {};
    // Instead of `samples`: values that lie elsewhere (sample_store.h), for as long as the owner lives.
    std::span<const float> stored_samples = {};
    std::shared_ptr<const void> stored_owner = {};
    int stored_fd = -1;  // the owner's: what can be mapped elsewhere to see the same values
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
  SampleKind kind_ = SampleKind::fixed;
  LabelKind label_kind_ = LabelKind::sample;
  std::span<const std::int32_t> tokens_, token_bytes_;
  std::span<const std::int64_t> starts_, lengths_;
  std::vector<std::string> group_names_;
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

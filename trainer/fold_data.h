#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "datasets/dataset.h"
#include "datasets/folds.h"
#include "datasets/normaliser.h"
#include "experiments/spec.h"

namespace tenfold {

// A dataset on the computing device; one copy per trainer.
struct DeviceDataset {
  std::shared_ptr<const Dataset> host;
  at::Tensor samples;  // (N, features) float32, raw
  at::Tensor one_hot;  // (classes, classes) identity: rows are targets
  at::Tensor labels;   // (N) int64: read in training alone
};

// One split of it. Training samples are normalised when they are gathered; the held-out fold is shifted (raw), then
// normalised, and holds features alone: its labels stay on the host, for metrics.
struct FoldData {
  std::shared_ptr<const DeviceDataset> dataset;
  Split split;
  at::Tensor offset, scale;               // (features)
  at::Tensor test_samples;                // (test_n, features), shifted and normalised
  std::vector<std::int64_t> test_labels;  // host
};

// Datasets and folds that this trainer has prepared, kept for the next array while they are few and small.
class FoldStore {
 public:
  FoldStore(at::Device device) : device_(device) {}
  // Opens the dataset's cache, or reads the source where the cache is not there. Throws Error(data) when its content is
  // not `fingerprint` any more.
  std::shared_ptr<const FoldData> fold(const ExperimentSpec& spec, int repeat, int fold, const std::string& fingerprint,
                                       const std::filesystem::path& cache_folder);

 private:
  std::shared_ptr<const DeviceDataset> dataset(const DatasetSpec& spec, const std::string& fingerprint,
                                               const std::filesystem::path& cache_folder);
  void make_room();

  at::Device device_;
  std::map<std::string, std::shared_ptr<const DeviceDataset>> datasets_;
  std::map<std::string, std::vector<Split>> splits_;
  std::map<std::string, std::shared_ptr<const FoldData>> folds_;
};

}  // namespace tenfold

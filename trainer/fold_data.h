#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "datasets/dataset.h"
#include "datasets/folds.h"
#include "datasets/normaliser.h"
#include "experiments/spec.h"
#include "trainer/sample_table.h"

namespace tenfold {

// A dataset on the computing device; one copy per trainer.
struct DeviceDataset {
  std::shared_ptr<const Dataset> host;
  SampleTable table;   // raw
  at::Tensor one_hot;  // (classes, classes) identity: rows are targets; fixed samples alone
  at::Tensor labels;   // (N), or (steps) beside table.values, int64: read in training alone; undefined for tokens
  at::Tensor groups;   // (N) int64, where statistics are by group
  std::vector<std::int64_t> length_bounds;  // padded lengths of sequences and tokens (datasets/length_buckets.h)
};

// One split of it. Training samples are normalised when they are gathered; the held-out fold is shifted (raw), then
// normalised, and holds features alone: its labels stay on the host, for metrics.
struct FoldData {
  std::shared_ptr<const DeviceDataset> dataset;
  Split split;
  std::shared_ptr<const std::vector<Split>> splits;  // all of the folds' kind, this one among them
  at::Tensor offset, scale;               // (rows, features), rows 1 or the number of groups; undefined for tokens
  SampleTable test;                       // (test_n), shifted and normalised
  std::vector<std::int64_t> test_labels;  // host: (test_n), or of the steps one sample after another; empty for tokens
  std::vector<std::int64_t> test_label_starts;  // (test_n) first label of a sample, where steps have labels
  // Labels of the sample at `place` of the held-out fold: one, or one of each step.
  std::span<const std::int64_t> labels_at(std::int64_t place) const;
};

ModelData model_data(const Dataset& dataset);

// Labels of samples one after another: one each, or one of each step; none of tokens.
std::vector<std::int64_t> labels_of(const Dataset& dataset, std::span<const std::int64_t> samples);

// What the updates of an epoch are counted by (SplitSummary::epoch_n).
std::int64_t epoch_samples(const Dataset& dataset, const Split& split, std::span<const Split> splits);

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
  std::map<std::string, std::shared_ptr<const std::vector<Split>>> splits_;
  std::map<std::string, std::shared_ptr<const FoldData>> folds_;
};

}  // namespace tenfold

#include "trainer/fold_data.h"

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "datasets/shift.h"
#include "experiments/error.h"
#include "experiments/experiment.h"

namespace tenfold {
namespace {

// Prepared folds are dropped when there are more than this: a sweep over shifts makes many.
constexpr std::size_t kMostFolds = 64;

at::Tensor to_device(std::vector<float>& values, std::vector<std::int64_t> shape, at::Device device) {
  return at::from_blob(values.data(), shape, at::kFloat).clone().to(device);
}

}  // namespace

std::shared_ptr<const DeviceDataset> FoldStore::dataset(const DatasetSpec& spec, const std::string& fingerprint,
                                                        const std::filesystem::path& cache_folder) {
  auto& found = datasets_[fingerprint];
  if (found) return found;
  const std::filesystem::path cache = cache_folder / (fingerprint + ".safetensors");
  auto host =
      std::make_shared<const Dataset>(std::filesystem::exists(cache) ? read_cached_dataset(cache) : load_dataset(spec));
  if (host->fingerprint().hex() != fingerprint)
    throw Error(ErrorKind::data, "the dataset has changed since the run began (fingerprint " +
                                     host->fingerprint().hex().substr(0, 12) + ", expected " +
                                     fingerprint.substr(0, 12) + "): run the command again to begin with the new data");
  const auto samples = host->samples();
  const auto labels = host->labels();
  DeviceDataset dataset;
  // from_blob wants a mutable pointer; the mapping is read-only and nothing writes to these tensors.
  dataset.samples = at::from_blob(const_cast<float*>(samples.data()), {host->size(), host->features()}, at::kFloat);
  dataset.labels = at::from_blob(const_cast<std::int64_t*>(labels.data()), {host->size()}, at::kLong);
  if (!device_.is_cpu()) {
    dataset.samples = dataset.samples.to(device_);
    dataset.labels = dataset.labels.to(device_);
  }
  dataset.one_hot = at::eye(host->classes(), at::TensorOptions(at::kFloat).device(device_));
  dataset.host = std::move(host);
  found = std::make_shared<const DeviceDataset>(std::move(dataset));
  return found;
}

std::shared_ptr<const FoldData> FoldStore::fold(const ExperimentSpec& spec, int repeat, int fold,
                                                const std::string& fingerprint,
                                                const std::filesystem::path& cache_folder) {
  const nlohmann::json json = to_json(spec);
  const std::string folds_key = fingerprint + json.at("folds").dump();
  const std::string key = folds_key + json.at("dataset").dump() + std::to_string(spec.seed) + '/' +
                          std::to_string(repeat) + '/' + std::to_string(fold);
  if (const auto found = folds_.find(key); found != folds_.end()) return found->second;
  if (folds_.size() >= kMostFolds) folds_.clear();

  FoldData data;
  data.dataset = dataset(spec.dataset, fingerprint, cache_folder);
  const Dataset& host = *data.dataset->host;
  auto& splits = splits_[folds_key];
  if (splits.empty()) splits = make_splits(host, spec.folds);
  for (const Split& split : splits)
    if (split.repeat == repeat && split.fold == fold) data.split = split;
  if (data.split.test.empty())
    throw Error(ErrorKind::internal,
                "there is no fold " + std::to_string(fold) + " of repeat " + std::to_string(repeat));

  Normaliser normaliser = Normaliser::fit(host, data.split.train, spec.dataset.normalisation);
  std::vector<float> test = shifted_samples(host, data.split.test, data.split.train, spec.dataset.shift, spec.seed);
  normaliser.apply(test);
  const std::int64_t features = host.features();
  data.test_samples = to_device(test, {static_cast<std::int64_t>(data.split.test.size()), features}, device_);
  data.offset = to_device(normaliser.offset, {features}, device_);
  data.scale = to_device(normaliser.scale, {features}, device_);
  for (const std::int64_t index : data.split.test)
    data.test_labels.push_back(host.labels()[static_cast<std::size_t>(index)]);
  return folds_[key] = std::make_shared<const FoldData>(std::move(data));
}

}  // namespace tenfold

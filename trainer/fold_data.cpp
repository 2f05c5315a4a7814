#include "trainer/fold_data.h"

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "datasets/shift.h"
#include "experiments/error.h"
#include "experiments/experiment.h"

namespace tenfold {
namespace {

// Above this, what no array uses is dropped: a sweep over shifts makes many folds, one over datasets many datasets.
constexpr std::size_t kMostFolds = 64, kMostDatasets = 4;
constexpr std::int64_t kMostFoldBytes = std::int64_t{256} << 20;

at::Tensor to_device(std::vector<float>& values, std::vector<std::int64_t> shape, at::Device device) {
  return at::from_blob(values.data(), shape, at::kFloat).clone().to(device);
}

}  // namespace

std::shared_ptr<const DeviceDataset> FoldStore::dataset(const DatasetSpec& spec, const std::string& fingerprint,
                                                        const std::filesystem::path& cache_folder) {
  if (const auto found = datasets_.find(fingerprint); found != datasets_.end()) return found->second;
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
  return datasets_[fingerprint] = std::make_shared<const DeviceDataset>(std::move(dataset));
}

void FoldStore::make_room() {
  const auto unused = [](const auto& entry) { return entry.second.use_count() == 1; };
  std::int64_t bytes = 0;
  for (const auto& [key, fold] : folds_) bytes += static_cast<std::int64_t>(fold->test_samples.nbytes());
  if (folds_.size() >= kMostFolds || bytes > kMostFoldBytes) std::erase_if(folds_, unused);
  if (datasets_.size() <= kMostDatasets) return;
  std::erase_if(folds_, unused);  // they hold their datasets
  std::erase_if(datasets_, unused);
  splits_.clear();
}

std::shared_ptr<const FoldData> FoldStore::fold(const ExperimentSpec& spec, int repeat, int fold,
                                                const std::string& fingerprint,
                                                const std::filesystem::path& cache_folder) {
  const nlohmann::json json = to_json(spec);
  const std::string folds_key = fingerprint + json.at("folds").dump();
  const std::string key = folds_key + json.at("dataset").dump() + std::to_string(spec.seed) + '/' +
                          std::to_string(repeat) + '/' + std::to_string(fold);
  if (const auto found = folds_.find(key); found != folds_.end()) return found->second;
  make_room();

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

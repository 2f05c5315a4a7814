#include "trainer/fold_data.h"

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "datasets/length_buckets.h"
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

// The held-out fold: shifted in raw space, then normalised.
SampleTable held_out(const DeviceDataset& dataset, const Split& split, const ExperimentSpec& spec,
                     const Normaliser& normaliser, at::Device device) {
  const Dataset& host = *dataset.host;
  if (host.kind() == SampleKind::tokens) return chosen_samples(dataset.table, split.test);
  std::vector<float> values = shifted_samples(host, split.test, split.train, spec.dataset.shift, spec.seed);
  const auto rows = static_cast<std::int64_t>(values.size()) / host.features();
  SampleTable test;
  test.kind = host.kind();
  std::vector<std::int64_t> starts;
  if (test.kind == SampleKind::sequence) {
    std::int64_t next = 0;
    for (const std::int64_t index : split.test) {
      const std::int64_t steps = host.steps(index);
      const std::int64_t group = normaliser.rows > 1 ? host.groups()[static_cast<std::size_t>(index)] : 0;
      normaliser.apply(std::span(values).subspan(static_cast<std::size_t>(next * host.features()),
                                                 static_cast<std::size_t>(steps * host.features())),
                       group);
      starts.push_back(next);
      test.host_counts.push_back(steps);
      next += steps;
    }
    test.starts = at::tensor(starts, at::kLong).to(device);
    test.counts = at::tensor(test.host_counts, at::kLong).to(device);
  } else {
    normaliser.apply(values);
  }
  test.values = to_device(values, {rows, host.features()}, device);
  return test;
}

}  // namespace

std::span<const std::int64_t> FoldData::labels_at(std::int64_t place) const {
  const auto i = static_cast<std::size_t>(place);
  if (test_label_starts.empty()) return std::span(test_labels).subspan(i, 1);
  return std::span(test_labels)
      .subspan(static_cast<std::size_t>(test_label_starts[i]), static_cast<std::size_t>(test.host_counts[i]));
}

std::vector<std::int64_t> labels_of(const Dataset& dataset, std::span<const std::int64_t> samples) {
  std::vector<std::int64_t> labels;
  if (dataset.label_kind() == LabelKind::next_token) return labels;
  for (const std::int64_t index : samples) {
    const auto place = static_cast<std::size_t>(index);
    if (dataset.label_kind() == LabelKind::sample) {
      labels.push_back(dataset.labels()[place]);
      continue;
    }
    const auto steps = dataset.labels().subspan(static_cast<std::size_t>(dataset.starts()[place]),
                                                static_cast<std::size_t>(dataset.steps(index)));
    labels.insert(labels.end(), steps.begin(), steps.end());
  }
  return labels;
}

std::int64_t epoch_samples(const Dataset& dataset, const Split& split, std::span<const Split> splits) {
  auto most = static_cast<std::int64_t>(split.train.size());
  if (dataset.kind() != SampleKind::fixed)
    for (const Split& other : splits) most = std::max(most, static_cast<std::int64_t>(other.train.size()));
  return most;
}

ModelData model_data(const Dataset& dataset) {
  return {dataset.sample_shape(), dataset.classes(), dataset.kind(), dataset.label_kind()};
}

std::shared_ptr<const DeviceDataset> FoldStore::dataset(const DatasetSpec& spec, const std::string& fingerprint,
                                                        const std::filesystem::path& cache_folder) {
  // Not all that shapes a device's copy is in the fingerprint.
  const std::string key = fingerprint + ' ' + std::to_string(spec.length_buckets) + ' ' + spec.normalise_by;
  if (const auto found = datasets_.find(key); found != datasets_.end()) return found->second;
  const std::filesystem::path cache = cache_folder / (fingerprint + ".safetensors");
  auto host =
      std::make_shared<const Dataset>(std::filesystem::exists(cache) ? read_cached_dataset(cache) : load_dataset(spec));
  if (host->fingerprint().hex() != fingerprint)
    throw Error(ErrorKind::data, "the dataset has changed since the run began (fingerprint " +
                                     host->fingerprint().hex().substr(0, 12) + ", expected " +
                                     fingerprint.substr(0, 12) + "): run the command again to begin with the new data");
  DeviceDataset dataset;
  dataset.table = sample_table(*host, device_);
  if (!host->labels().empty()) dataset.labels = integers_of(host->labels(), device_);
  if (host->kind() == SampleKind::fixed) {
    dataset.one_hot = at::eye(host->classes(), at::TensorOptions(at::kFloat).device(device_));
  } else {
    dataset.length_bounds = length_bounds(dataset.table.host_counts, spec.length_buckets);
    if (spec.normalise_by == "group") dataset.groups = integers_of(host->groups(), device_);
  }
  dataset.host = std::move(host);
  return datasets_[key] = std::make_shared<const DeviceDataset>(std::move(dataset));
}

void FoldStore::make_room() {
  const auto unused = [](const auto& entry) { return entry.second.use_count() == 1; };
  std::int64_t bytes = 0;
  for (const auto& [key, fold] : folds_) bytes += static_cast<std::int64_t>(fold->test.values.nbytes());
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
  if (!splits) splits = std::make_shared<const std::vector<Split>>(make_splits(host, spec.folds));
  data.splits = splits;
  for (const Split& split : *splits)
    if (split.repeat == repeat && split.fold == fold) data.split = split;
  if (data.split.test.empty())
    throw Error(ErrorKind::internal,
                "there is no fold " + std::to_string(fold) + " of repeat " + std::to_string(repeat));

  Normaliser normaliser;
  if (host.kind() != SampleKind::tokens) {
    normaliser =
        Normaliser::fit(host, data.split.train, spec.dataset.normalisation, spec.dataset.normalise_by == "group");
    data.offset = to_device(normaliser.offset, {normaliser.rows, host.features()}, device_);
    data.scale = to_device(normaliser.scale, {normaliser.rows, host.features()}, device_);
  }
  data.test = held_out(*data.dataset, data.split, spec, normaliser, device_);
  data.test_labels = labels_of(host, data.split.test);
  if (host.label_kind() == LabelKind::step) {
    std::int64_t next = 0;
    for (const std::int64_t steps : data.test.host_counts) {
      data.test_label_starts.push_back(next);
      next += steps;
    }
  }
  return folds_[key] = std::make_shared<const FoldData>(std::move(data));
}

}  // namespace tenfold

#include <algorithm>
#include <cmath>

#include "datasets/hdf5_file.h"
#include "datasets/loaders.h"
#include "datasets/sequence_assembly.h"
#include "experiments/error.h"

namespace tenfold {
namespace {

void require_named(const std::string& value, const std::string& key, const std::string& what) {
  if (value.empty()) throw Error(ErrorKind::config, key + ": name " + what);
}

TrialOutline outline_of(const Hdf5File& file, const DatasetSpec& spec, const std::string& trial) {
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorKind::data, spec.path + ": trial " + trial + ": " + what);
  };
  const std::string features = trial + "/" + spec.features_key, targets = trial + "/" + spec.targets_key;
  if (!file.has(features)) refuse("has no '" + spec.features_key + "' (dataset.features_key)");
  if (!file.has(targets)) refuse("has no '" + spec.targets_key + "' (dataset.targets_key)");
  const Hdf5File::Extent shape = file.extent(features);
  if (shape.shape.size() != 2)
    refuse("'" + spec.features_key + "' has " + std::to_string(shape.shape.size()) +
           " dimensions where two are needed: (steps, features)");
  TrialOutline outline;
  outline.name = trial;
  outline.steps = shape.shape[0];
  outline.features = shape.shape[1];

  // The brain-to-text sets pad their labels with zeros: the attribute tells how many there are.
  std::int64_t labelled = file.extent(targets).values;
  outline.one_label = labelled == 1;
  if (const auto told = file.attribute_number(trial, "seq_len"); told.has_value() && !outline.one_label) {
    if (!(*told >= 0 && *told <= 9e15 && *told == std::floor(*told)))
      refuse("its attribute 'seq_len' is not a number of labels");
    labelled = std::min(labelled, static_cast<std::int64_t>(*told));
  }
  outline.labels = file.first_numbers(targets, std::min(labelled, kept_steps(spec, outline.steps)));
  if (!spec.session_attribute.empty()) outline.session = file.attribute_text(trial, spec.session_attribute);
  return outline;
}

}  // namespace

Dataset::Parts load_hdf5(const DatasetSpec& spec) {
  require_named(spec.path, "dataset.path", "the HDF5 file");
  require_named(spec.features_key, "dataset.features_key", "the dataset of a trial that holds its features");
  require_named(spec.targets_key, "dataset.targets_key", "the dataset of a trial that holds its labels");
  const Hdf5File file(spec.path);
  const std::vector<std::string> trials = file.groups();
  if (trials.empty())
    throw Error(ErrorKind::data, spec.path + ": there are no groups at its root; each trial is a group of its own");
  SequenceAssembly assembly(spec, spec.path);
  for (const std::string& trial : trials) assembly.add(outline_of(file, spec, trial));
  return std::move(assembly).finish([&](std::size_t i, const ColumnSelection& columns, std::span<float> values) {
    const std::int64_t rows = static_cast<std::int64_t>(values.size()) / columns.count();
    std::int64_t at = 0;
    for (const ColumnRange& range : columns.ranges()) {
      file.read_columns(trials[i] + "/" + spec.features_key, rows, range.first, range.end, values, columns.count(), at);
      at += range.end - range.first;
    }
  });
}

}  // namespace tenfold

#include "datasets/npy_array.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "datasets/file_content.h"
#include "datasets/label_table.h"
#include "datasets/loaders.h"
#include "datasets/sample_store.h"
#include "datasets/sequence_values.h"
#include "datasets/zip_archive.h"
#include "experiments/error.h"

namespace tenfold {
namespace {

Dataset::Parts parts_of(const RawArray& samples, const RawArray& labels, const RawArray* groups) {
  Dataset::Parts parts;
  parts.sample_shape = sample_shape_of(samples);
  NamedCodes classes = to_codes(labels, samples.shape[0]);
  require_classes(classes.names.size(), samples.shape[0], labels.name);
  parts.labels = std::move(classes.codes);
  parts.class_names = std::move(classes.names);
  if (groups != nullptr) parts.groups = to_codes(*groups, samples.shape[0]).codes;
  parts.samples = to_floats(samples);
  return parts;
}

void require_named(const std::string& value, const std::string& key, const std::string& what) {
  if (value.empty()) throw Error(ErrorKind::config, key + ": name " + what);
}

// A member of an npz file, kept while its array is in use.
struct NpzArray {
  NpzArray(const ZipArchive& archive, const std::string& file, const std::string& array_name, const std::string& key) {
    const std::string member = archive.contains(array_name + ".npy") ? array_name + ".npy" : array_name;
    if (!archive.contains(member)) {
      std::string held;
      for (std::string name : archive.names()) {
        if (name.ends_with(".npy")) name.resize(name.size() - 4);
        if (held.size() < 300) held += (held.empty() ? "" : ", ") + name;
      }
      throw Error(ErrorKind::config, key + ": " + file + " holds no array '" + array_name +
                                         (held.empty() ? "'; it is empty" : "'; it has " + held));
    }
    content = archive.read(member);
    array = parse_npy(content, file + ": '" + array_name + "'");
  }
  std::vector<std::byte> content;
  RawArray array;
};

// (N + 1) first rows of sequences; the last is the number of rows.
std::vector<std::int64_t> row_offsets(const RawArray& array, std::int64_t rows) {
  if (array.shape.size() != 1 || array.shape[0] < 2)
    throw Error(ErrorKind::data,
                array.name + ": the first rows of N sequences and the number of rows are needed: (N + 1)");
  std::vector<std::int64_t> offsets;
  for (const double value : to_numbers(array)) {
    const bool sound = value == std::floor(value) && value >= 0 && value <= static_cast<double>(rows) &&
                       (offsets.empty() ? value == 0 : value > static_cast<double>(offsets.back()));
    if (!sound)
      throw Error(ErrorKind::data, array.name + ": entry " + std::to_string(offsets.size()) +
                                       " (from 0) is out of order; first rows rise from 0 to the " +
                                       std::to_string(rows) + " rows that there are, and no sequence is empty");
    offsets.push_back(static_cast<std::int64_t>(value));
  }
  if (offsets.back() != rows)
    throw Error(ErrorKind::data,
                array.name + ": ends at row " + std::to_string(offsets.back()) + " of " + std::to_string(rows));
  return offsets;
}

// One label a sequence, or one a step, where -1 says that there is none.
void put_labels(const RawArray& labels, const std::vector<std::int64_t>& offsets, Dataset::Parts& parts) {
  const auto sequences = static_cast<std::int64_t>(offsets.size()) - 1;
  const bool by_step = labels.shape.empty() || labels.shape[0] != sequences;
  NamedCodes codes = to_codes(labels, by_step ? offsets.back() : sequences);
  if (!by_step) {
    require_classes(codes.names.size(), sequences, labels.name);
    parts.label_kind = LabelKind::sample;
    parts.labels = std::move(codes.codes);
    parts.class_names = std::move(codes.names);
    return;
  }
  const bool numbers = labels.kind != 'U' && labels.kind != 'S';
  const std::int64_t none = numbers && !codes.names.empty() && codes.names[0] == "-1" ? 1 : 0;  // the least of them
  if (none == 1) codes.names.erase(codes.names.begin());
  require_classes(codes.names.size(), offsets.back(), labels.name);
  parts.label_kind = LabelKind::step;
  parts.class_names = std::move(codes.names);
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i)
    for (std::int64_t t = 0; t < parts.lengths[i]; ++t)
      parts.labels.push_back(codes.codes[static_cast<std::size_t>(offsets[i] + t)] - none);
}

Dataset::Parts ragged_parts_of(const DatasetSpec& spec, const RawArray& values, const RawArray& first_rows,
                               const RawArray& labels, const RawArray* groups) {
  if (values.shape.empty() || values.shape.size() > 2 || values.data.empty())
    throw Error(ErrorKind::data, values.name + ": rows of sequences one after another are needed: (steps, features)");
  const std::vector<std::int64_t> offsets = row_offsets(first_rows, values.shape[0]);
  const ColumnSelection columns(spec.feature_ranges, values.shape.size() == 2 ? values.shape[1] : 1, values.name);
  Dataset::Parts parts;
  parts.kind = SampleKind::sequence;
  parts.sample_shape = {columns.count()};
  std::int64_t total = 0;
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
    parts.starts.push_back(total);
    parts.lengths.push_back(kept_steps(spec, offsets[i + 1] - offsets[i]));
    total += parts.lengths.back();
  }
  put_labels(labels, offsets, parts);
  if (groups != nullptr) {
    NamedCodes codes = to_codes(*groups, static_cast<std::int64_t>(parts.starts.size()));
    parts.groups = std::move(codes.codes);
    parts.group_names = std::move(codes.names);
  }
  SampleStore store(total * columns.count(), values.name);
  for (std::size_t i = 0; i < parts.starts.size(); ++i) {
    const std::span<float> to = store.values().subspan(static_cast<std::size_t>(parts.starts[i] * columns.count()),
                                                       static_cast<std::size_t>(parts.lengths[i] * columns.count()));
    std::int64_t at = 0;
    for (const ColumnRange& range : columns.ranges()) {
      copy_columns(values, {offsets[i], parts.lengths[i], range.first, range.end, columns.count(), at}, to);
      at += range.end - range.first;
    }
    require_finite(to, columns.count(), values.name + ": sequence " + std::to_string(i) + ", by step");
    transform_values(to, spec.transform);
  }
  std::move(store).give_to(parts);
  return parts;
}

}  // namespace

Dataset::Parts load_npy(const DatasetSpec& spec) {
  require_named(spec.path, "dataset.path", "the npy file with the samples");
  require_named(spec.labels, "dataset.labels", "the npy file with the labels");
  const MappedFile samples = map_file(spec.path), labels = map_file(spec.labels);
  const RawArray sample_array = parse_npy(samples.bytes, spec.path);
  const RawArray label_array = parse_npy(labels.bytes, spec.labels);
  if (spec.groups.empty()) return parts_of(sample_array, label_array, nullptr);
  const MappedFile groups = map_file(spec.groups);
  const RawArray group_array = parse_npy(groups.bytes, spec.groups);
  return parts_of(sample_array, label_array, &group_array);
}

Dataset::Parts load_npz(const DatasetSpec& spec) {
  require_named(spec.path, "dataset.path", "the npz file");
  const MappedFile mapped = map_file(spec.path);
  const ZipArchive archive(mapped.bytes, spec.path);
  const NpzArray samples(archive, spec.path, spec.samples_key, "dataset.samples_key");
  const NpzArray labels(archive, spec.path, spec.labels_key, "dataset.labels_key");
  std::optional<NpzArray> groups, offsets;
  if (!spec.groups_key.empty()) groups.emplace(archive, spec.path, spec.groups_key, "dataset.groups_key");
  if (!spec.offsets_key.empty()) offsets.emplace(archive, spec.path, spec.offsets_key, "dataset.offsets_key");
  const RawArray* const group_array = groups ? &groups->array : nullptr;
  return offsets ? ragged_parts_of(spec, samples.array, offsets->array, labels.array, group_array)
                 : parts_of(samples.array, labels.array, group_array);
}

}  // namespace tenfold

#include "datasets/npy_array.h"

#include "datasets/file_content.h"
#include "datasets/label_table.h"
#include "datasets/loaders.h"
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
  if (spec.groups_key.empty()) return parts_of(samples.array, labels.array, nullptr);
  const NpzArray groups(archive, spec.path, spec.groups_key, "dataset.groups_key");
  return parts_of(samples.array, labels.array, &groups.array);
}

}  // namespace tenfold

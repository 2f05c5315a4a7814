#include <stdexcept>
#include <string>

#include "datasets/dataset.h"
#include "datasets/safetensors.h"
#include "experiments/spec.h"
#include "tests/datasets/test_files.h"
#include "tests/fuzz/input_file.h"

// Samples in arrays and tables.
namespace tenfold::fuzz {
namespace {

DatasetSpec spec_of(const std::string& kind, const std::string& path) {
  DatasetSpec spec;
  spec.kind = kind;
  spec.path = path;
  return spec;
}

// The input as the samples beside sound labels, and as the labels of sound samples. Where they do not agree, either
// file may be the one that is named.
bool as_samples_or_labels(const std::string& kind, Input input, const InputFile& samples, const InputFile& labels) {
  static const InputFile file;
  file.write(input);
  DatasetSpec spec = spec_of(kind, file.path());
  spec.labels = labels.path();
  const std::string place = file.path().substr(0, file.path().rfind('/') + 1) + "fuzz-";
  const bool as_samples = read_or_told(place, [&] { load_dataset(spec); });
  spec = spec_of(kind, samples.path());
  spec.labels = file.path();
  const bool as_labels = read_or_told(place, [&] { load_dataset(spec); });
  return as_samples || as_labels;
}

}  // namespace

bool npy(Input input) {
  static const InputFile samples(test::npy("<f4", "(4,)", test::raw<float>({1, 2, 3, 4})));
  static const InputFile labels(test::npy("|u1", "(4,)", std::string("\0\1\0\1", 4)));
  return as_samples_or_labels("npy", input, samples, labels);
}

bool npz(Input input) {
  static const InputFile file;
  file.write(input);
  DatasetSpec spec = spec_of("npz", file.path());
  const bool fixed = read_or_told(file.path(), [&] { load_dataset(spec); });
  spec.offsets_key = "offsets";
  spec.groups_key = "groups";
  const bool ragged = read_or_told(file.path(), [&] { load_dataset(spec); });
  return fixed || ragged;
}

bool idx(Input input) {
  static const InputFile samples(test::idx(0x08, {4, 2, 2}, "abcdefghijklmnop"));
  static const InputFile labels(test::idx(0x08, {4}, std::string("\0\1\0\1", 4)));
  return as_samples_or_labels("idx", input, samples, labels);
}

bool csv(Input input) {
  static const InputFile file;
  file.write(input);
  DatasetSpec spec = spec_of("csv", file.path());
  spec.label_column = "label";
  const bool plain = read_or_told(file.path(), [&] { load_dataset(spec); });
  spec.group_column = "who";
  spec.fold_column = "fold";
  spec.categorical_columns = {"kind"};
  spec.ignore_columns = {"note"};
  spec.missing = "drop";
  const bool full = read_or_told(file.path(), [&] { load_dataset(spec); });
  return plain || full;
}

bool safetensors(Input input) {
  static const InputFile file;
  file.write(input);
  return read_or_told(file.path(), [&] {
    const SafetensorsFile stored = SafetensorsFile::open(file.path());
    std::size_t sum = 0;
    for (const auto& [name, tensor] : stored.tensors()) {
      std::size_t values = 1;
      for (const std::int64_t extent : tensor.shape) values *= static_cast<std::size_t>(extent);
      if (values * dtype_bytes(tensor.dtype) != tensor.data.size())
        throw std::logic_error(name + ": its data are not of its shape");
      for (const std::byte byte : tensor.data) sum += std::to_integer<unsigned>(byte);
    }
    if (sum > 255 * input.size()) throw std::logic_error("the tensors hold more than the file");
    read_or_told(file.path(), [&] { read_cached_dataset(file.path()); });
  });
}

}  // namespace tenfold::fuzz

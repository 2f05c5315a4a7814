#include <nlohmann/json.hpp>

#include "datasets/dataset.h"
#include "datasets/loaders.h"
#include "datasets/safetensors.h"
#include "experiments/error.h"

namespace tenfold {
namespace {

template <class T>
TensorView view_of(const char* dtype, std::vector<std::int64_t> shape, std::span<const T> values) {
  return {dtype, std::move(shape), std::as_bytes(values)};
}

bool holds(const std::filesystem::path& file, const Digest& fingerprint) {
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) return false;
  try {
    return read_cached_dataset(file).fingerprint() == fingerprint;
  } catch (const Error&) {
    return false;  // damaged: written anew
  }
}

[[noreturn]] void not_ours(const std::filesystem::path& file, const std::string& what) {
  throw Error(ErrorKind::data, file.string() + ": is not a dataset cache of tenfold: " + what);
}

std::vector<std::string> names_of(const SafetensorsFile& stored, const std::string& key,
                                  const std::filesystem::path& file) {
  const auto found = stored.metadata().find(key);
  if (found == stored.metadata().end()) not_ours(file, "it has no " + key);
  try {
    return nlohmann::json::parse(found->second).get<std::vector<std::string>>();
  } catch (const nlohmann::json::exception&) {
    not_ours(file, "its " + key + " are damaged");
  }
}

// The value among `kinds` whose name the file holds; the first where it holds none: older files have samples of one
// shape and say nothing.
template <class Kind>
Kind kind_of(const SafetensorsFile& stored, const std::string& key, std::initializer_list<Kind> kinds,
             const std::filesystem::path& file) {
  const auto found = stored.metadata().find(key);
  if (found == stored.metadata().end()) return *kinds.begin();
  for (const Kind kind : kinds)
    if (found->second == to_string(kind)) return kind;
  not_ours(file, "its " + key + " '" + found->second + "' is not known");
}

// One-dimensional; validate_dataset() knows how many there must be.
void require_list(const SafetensorsFile& stored, const std::string& name, const std::filesystem::path& file) {
  if (stored.tensor(name).shape.size() != 1) not_ours(file, "its " + name + " are not a list");
}

std::span<const std::int64_t> integers_if_there(const SafetensorsFile& stored, const std::string& name,
                                                const std::filesystem::path& file) {
  if (!stored.tensors().contains(name)) return {};
  require_list(stored, name, file);
  return stored.integers(name);
}

std::span<const std::int32_t> small_integers_if_there(const SafetensorsFile& stored, const std::string& name,
                                                      const std::filesystem::path& file) {
  if (!stored.tensors().contains(name)) return {};
  require_list(stored, name, file);
  return stored.small_integers(name);
}

template <class T>
void put_list(std::map<std::string, TensorView>& tensors, const char* dtype, const std::string& name,
              std::span<const T> values) {
  if (!values.empty()) tensors[name] = view_of(dtype, {static_cast<std::int64_t>(values.size())}, values);
}

}  // namespace

std::filesystem::path write_cached_dataset(const Dataset& dataset, const std::filesystem::path& folder) {
  std::error_code code;
  std::filesystem::create_directories(folder, code);
  if (code)
    throw Error(ErrorKind::storage, folder.string() + ": the folder for data cannot be made: " + code.message() +
                                        "; set TENFOLD_CACHE to one that may be written");
  const std::filesystem::path file = folder / (dataset.fingerprint().hex() + ".safetensors");
  if (holds(file, dataset.fingerprint())) return file;

  std::vector<std::uint8_t> mask(dataset.one_hot().begin(), dataset.one_hot().end());
  std::map<std::string, TensorView> tensors;
  if (dataset.kind() != SampleKind::tokens) {
    std::vector<std::int64_t> shape = dataset.sample_shape();  // (N, ...), or (steps, ...) of sequences
    shape.insert(shape.begin(), static_cast<std::int64_t>(dataset.samples().size()) / dataset.features());
    tensors["samples"] = view_of("F32", shape, dataset.samples());
  }
  put_list(tensors, "I64", "labels", dataset.labels());
  put_list(tensors, "I64", "groups", dataset.groups());
  put_list(tensors, "I64", "given_folds", dataset.given_folds());
  put_list(tensors, "I64", "starts", dataset.starts());
  put_list(tensors, "I64", "lengths", dataset.lengths());
  put_list(tensors, "I32", "tokens", dataset.tokens());
  put_list(tensors, "I32", "token_bytes", dataset.token_bytes());
  put_list(tensors, "U8", "one_hot", std::span<const std::uint8_t>(mask));
  std::map<std::string, std::string> metadata = {{"content", "tenfold dataset"},
                                                 {"class_names", nlohmann::json(dataset.class_names()).dump()},
                                                 {"fingerprint", dataset.fingerprint().hex()}};
  if (!dataset.group_names().empty()) metadata["group_names"] = nlohmann::json(dataset.group_names()).dump();
  if (dataset.kind() != SampleKind::fixed) {
    metadata["kind"] = to_string(dataset.kind());
    metadata["label_kind"] = to_string(dataset.label_kind());
  }
  try {
    write_safetensors(file, tensors, metadata);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::storage) throw;
    throw Error(error.kind(), std::string(error.what()) + " (or set TENFOLD_CACHE to a folder with room for data)");
  }
  return file;
}

Dataset read_cached_dataset(const std::filesystem::path& file) {
  const SafetensorsFile stored = SafetensorsFile::open(file);
  Dataset dataset;
  dataset.storage_ = stored.mapping();
  dataset.class_names_ = names_of(stored, "class_names", file);
  if (stored.metadata().contains("group_names")) dataset.group_names_ = names_of(stored, "group_names", file);
  dataset.kind_ = kind_of(stored, "kind", {SampleKind::fixed, SampleKind::sequence, SampleKind::tokens}, file);
  dataset.label_kind_ =
      kind_of(stored, "label_kind", {LabelKind::sample, LabelKind::step, LabelKind::next_token}, file);
  dataset.sample_shape_ = {1};
  if (dataset.kind_ != SampleKind::tokens) {
    const std::vector<std::int64_t>& shape = stored.tensor("samples").shape;
    if (shape.size() < 2) not_ours(file, "its samples have no shape (N, ...)");
    dataset.sample_shape_.assign(shape.begin() + 1, shape.end());
    dataset.samples_ = stored.floats("samples");
  }
  dataset.labels_ = integers_if_there(stored, "labels", file);
  dataset.groups_ = integers_if_there(stored, "groups", file);
  dataset.given_folds_ = integers_if_there(stored, "given_folds", file);
  dataset.starts_ = integers_if_there(stored, "starts", file);
  dataset.lengths_ = integers_if_there(stored, "lengths", file);
  dataset.tokens_ = small_integers_if_there(stored, "tokens", file);
  dataset.token_bytes_ = small_integers_if_there(stored, "token_bytes", file);
  if (stored.tensors().contains("one_hot"))
    for (const std::byte flag : stored.tensor("one_hot").data) dataset.one_hot_.push_back(flag != std::byte{0});
  try {
    validate_dataset(dataset);
  } catch (const Error& error) {
    throw Error(error.kind(), file.string() + ": " + error.what() + " (a damaged cache: delete the file)");
  }
  dataset.fingerprint_ = dataset_fingerprint(dataset);
  const auto told = stored.metadata().find("fingerprint");
  if (told == stored.metadata().end() || told->second != dataset.fingerprint_.hex())
    throw Error(ErrorKind::data,
                file.string() +
                    ": its content does not have the fingerprint written in it; delete the file, and it is made anew");
  return dataset;
}

}  // namespace tenfold

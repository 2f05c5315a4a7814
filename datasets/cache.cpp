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

std::vector<std::string> class_names_of(const SafetensorsFile& stored, const std::filesystem::path& file) {
  const auto found = stored.metadata().find("class_names");
  try {
    if (found != stored.metadata().end()) return nlohmann::json::parse(found->second).get<std::vector<std::string>>();
  } catch (const nlohmann::json::exception&) {
    // told below, with the file's name
  }
  throw Error(ErrorKind::data, file.string() + ": is not a dataset cache of tenfold: it has no class names");
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

  const std::int64_t n = dataset.size();
  std::vector<std::int64_t> shape = dataset.sample_shape();
  shape.insert(shape.begin(), n);
  std::vector<std::uint8_t> mask(dataset.one_hot().begin(), dataset.one_hot().end());
  std::map<std::string, TensorView> tensors;
  tensors["samples"] = view_of("F32", shape, dataset.samples());
  tensors["labels"] = view_of("I64", {n}, dataset.labels());
  if (!dataset.groups().empty()) tensors["groups"] = view_of("I64", {n}, dataset.groups());
  if (!dataset.given_folds().empty()) tensors["given_folds"] = view_of("I64", {n}, dataset.given_folds());
  if (!mask.empty())
    tensors["one_hot"] = view_of("U8", {static_cast<std::int64_t>(mask.size())}, std::span<const std::uint8_t>(mask));
  write_safetensors(file, tensors,
                    {{"content", "tenfold dataset"},
                     {"class_names", nlohmann::json(dataset.class_names()).dump()},
                     {"fingerprint", dataset.fingerprint().hex()}});
  return file;
}

Dataset read_cached_dataset(const std::filesystem::path& file) {
  const SafetensorsFile stored = SafetensorsFile::open(file);
  Dataset dataset;
  dataset.storage_ = stored.mapping();
  dataset.class_names_ = class_names_of(stored, file);
  const std::vector<std::int64_t>& shape = stored.tensor("samples").shape;
  if (shape.size() < 2) throw Error(ErrorKind::data, file.string() + ": its samples have no shape (N, ...)");
  dataset.sample_shape_.assign(shape.begin() + 1, shape.end());
  dataset.samples_ = stored.floats("samples");
  dataset.labels_ = stored.integers("labels");
  if (stored.tensors().contains("groups")) dataset.groups_ = stored.integers("groups");
  if (stored.tensors().contains("given_folds")) dataset.given_folds_ = stored.integers("given_folds");
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

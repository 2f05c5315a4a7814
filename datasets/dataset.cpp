#include "datasets/dataset.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <new>
#include <stdexcept>

#include "datasets/loaders.h"
#include "experiments/error.h"

static_assert(std::endian::native == std::endian::little, "file formats are read as little-endian memory");

namespace tenfold {
namespace {

void hash_integers(Hasher& hasher, std::string_view what, std::span<const std::int64_t> values) {
  const auto count = static_cast<std::uint64_t>(values.size());
  hasher.update(what);
  hasher.update(&count, sizeof count);
  hasher.update_values(values);
}

[[noreturn]] void fail(const std::string& what) { throw Error(ErrorKind::data, "dataset: " + what); }

}  // namespace

Digest dataset_fingerprint(const Dataset& dataset) {
  Hasher hasher;
  hash_integers(hasher, "shape", dataset.sample_shape());
  hasher.update("samples");
  hasher.update_values(dataset.samples());
  hash_integers(hasher, "labels", dataset.labels());
  hash_integers(hasher, "groups", dataset.groups());
  hash_integers(hasher, "folds", dataset.given_folds());
  std::string rest = "one_hot";
  for (const bool flag : dataset.one_hot()) rest += flag ? '1' : '0';
  for (const std::string& name : dataset.class_names()) rest += "\nclass " + std::to_string(name.size()) + ' ' + name;
  hasher.update(rest);
  return hasher.finish();
}

void validate_dataset(const Dataset& dataset) {
  if (dataset.size() == 0) fail("there are no samples");
  if (dataset.sample_shape().empty()) fail("samples have no shape");
  const std::int64_t features =
      checked_elements(dataset.sample_shape(), static_cast<std::int64_t>(dataset.samples().size()), "dataset");
  if (features == 0) fail("samples have no features");
  const auto n = static_cast<std::size_t>(dataset.size());
  if (dataset.samples().size() / static_cast<std::size_t>(features) != n ||
      dataset.samples().size() % static_cast<std::size_t>(features) != 0)
    fail(std::to_string(dataset.samples().size()) + " values are not " + std::to_string(n) + " samples of " +
         std::to_string(features) + " features");
  const auto require_count = [&](std::size_t count, const char* what) {
    if (count != 0 && count != n)
      fail("there are " + std::to_string(count) + ' ' + what + " for " + std::to_string(n) + " samples");
  };
  require_count(dataset.groups().size(), "groups");
  require_count(dataset.given_folds().size(), "given folds");
  if (!dataset.one_hot().empty() && dataset.one_hot().size() != static_cast<std::size_t>(features))
    fail("the one-hot mask has " + std::to_string(dataset.one_hot().size()) + " entries for " +
         std::to_string(features) + " features");
  for (std::size_t i = 0; i < n; ++i)
    if (dataset.labels()[i] < 0 || dataset.labels()[i] >= dataset.classes())
      fail("sample " + std::to_string(i) + " has label " + std::to_string(dataset.labels()[i]) + ", but there are " +
           std::to_string(dataset.classes()) + " classes");
  require_finite(dataset.samples(), features, "dataset");
}

std::int64_t checked_elements(std::span<const std::int64_t> shape, std::int64_t limit, const std::string& name) {
  std::int64_t product = 1;
  for (const std::int64_t dimension : shape)
    if (dimension < 0) throw Error(ErrorKind::data, name + ": a dimension is negative: " + std::to_string(dimension));
  for (const std::int64_t dimension : shape)
    if (dimension == 0) return 0;
  for (const std::int64_t dimension : shape) {
    if (dimension > limit / product)
      throw Error(ErrorKind::data,
                  name + ": its shape asks for more values than the " + std::to_string(limit) + " that it can hold");
    product *= dimension;
  }
  return product;
}

void require_finite(std::span<const float> samples, std::int64_t features, const std::string& name) {
  // x - x is 0 for finite numbers alone: a loop without branches over the many, a search only where it found one.
  constexpr std::size_t kBlock = 4096;
  for (std::size_t begin = 0; begin < samples.size(); begin += kBlock) {
    const auto block = samples.subspan(begin, std::min(kBlock, samples.size() - begin));
    bool all_finite = true;
    for (const float x : block) all_finite &= (x - x == 0.0f);
    if (all_finite) continue;
    const auto bad = static_cast<std::int64_t>(
        begin +
        static_cast<std::size_t>(std::find_if(block.begin(), block.end(), [](float x) { return !std::isfinite(x); }) -
                                 block.begin()));
    throw Error(ErrorKind::data,
                name + ": sample " + std::to_string(bad / features) + ", feature " + std::to_string(bad % features) +
                    " (both from 0) is " +
                    (std::isnan(samples[static_cast<std::size_t>(bad)]) ? "not a number" : "infinite") +
                    " in float32; clean the data first");
  }
}

std::int64_t Dataset::features() const {
  std::int64_t product = 1;
  for (const std::int64_t dimension : sample_shape_) product *= dimension;
  return product;
}

std::span<const float> Dataset::sample(std::int64_t i) const {
  const auto width = static_cast<std::size_t>(features());
  return samples_.subspan(static_cast<std::size_t>(i) * width, width);
}

Dataset::Dataset(Parts parts) {
  const auto owner = std::make_shared<const Parts>(std::move(parts));
  storage_ = owner;
  sample_shape_ = owner->sample_shape;
  samples_ = owner->samples;
  labels_ = owner->labels;
  groups_ = owner->groups;
  given_folds_ = owner->given_folds;
  class_names_ = owner->class_names;
  one_hot_ = owner->one_hot;
  validate_dataset(*this);
  fingerprint_ = dataset_fingerprint(*this);
}

Dataset load_dataset(const DatasetSpec& spec) {
  try {
    if (spec.kind == "digits") return Dataset(load_digits());
    if (spec.kind == "csv") return Dataset(load_csv(spec));
    if (spec.kind == "npy") return Dataset(load_npy(spec));
    if (spec.kind == "npz") return Dataset(load_npz(spec));
    if (spec.kind == "idx") return Dataset(load_idx(spec));
    if (spec.kind == "synthetic") return Dataset(load_synthetic(spec));
  } catch (const std::bad_alloc&) {
    throw Error(ErrorKind::data, (spec.path.empty() ? spec.kind : spec.path) +
                                     ": there is not enough memory to load it; use fewer samples or a larger machine");
  } catch (const std::length_error&) {
    throw Error(ErrorKind::data, (spec.path.empty() ? spec.kind : spec.path) + ": is larger than memory can hold");
  }
  throw Error(ErrorKind::config,
              "dataset.kind: '" + spec.kind + "' is not known; it may be digits, csv, npy, npz, idx or synthetic");
}

std::filesystem::path cache_folder() {
  if (const char* folder = std::getenv("TENFOLD_CACHE"); folder != nullptr && *folder != '\0') return folder;
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0')
    return std::filesystem::path(home) / ".cache" / "tenfold";
  passwd entry{};
  passwd* found = nullptr;
  std::vector<char> buffer(16384);
  if (::getpwuid_r(::getuid(), &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr)
    return std::filesystem::path(found->pw_dir) / ".cache" / "tenfold";
  throw Error(ErrorKind::config, "there is no home folder to keep the cache in; set TENFOLD_CACHE to a folder");
}

}  // namespace tenfold

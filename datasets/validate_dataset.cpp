#include <algorithm>
#include <cmath>

#include "datasets/loaders.h"
#include "experiments/error.h"

namespace tenfold {
namespace {

void hash_integers(Hasher& hasher, std::string_view what, std::span<const std::int64_t> values) {
  const auto count = static_cast<std::uint64_t>(values.size());
  hasher.update(what);
  hasher.update(&count, sizeof count);
  hasher.update_values(values);
}

void hash_small_integers(Hasher& hasher, std::string_view what, std::span<const std::int32_t> values) {
  const auto count = static_cast<std::uint64_t>(values.size());
  hasher.update(what);
  hasher.update(&count, sizeof count);
  hasher.update_values(values);
}

// What samples of one shape do not have. Names of groups are not in it: renaming a session changes no result.
void hash_sequences(Hasher& hasher, const Dataset& dataset) {
  hasher.update(std::string("kind ") + to_string(dataset.kind()) + " labels " + to_string(dataset.label_kind()));
  hash_integers(hasher, "starts", dataset.starts());
  hash_integers(hasher, "lengths", dataset.lengths());
  hash_small_integers(hasher, "tokens", dataset.tokens());
  hash_small_integers(hasher, "token_bytes", dataset.token_bytes());
}

[[noreturn]] void fail(const std::string& what) { throw Error(ErrorKind::data, "dataset: " + what); }

// Samples of one shape: one row of `features` values each.
void validate_fixed(const Dataset& dataset, std::int64_t features) {
  const auto n = static_cast<std::size_t>(dataset.size());
  if (dataset.samples().size() / static_cast<std::size_t>(features) != n ||
      dataset.samples().size() % static_cast<std::size_t>(features) != 0)
    fail(std::to_string(dataset.samples().size()) + " values are not " + std::to_string(n) + " samples of " +
         std::to_string(features) + " features");
  if (dataset.label_kind() != LabelKind::sample) fail("samples of one shape have one label each");
  if (!dataset.starts().empty() || !dataset.lengths().empty() || !dataset.tokens().empty())
    fail("samples of one shape have no lengths and no tokens");
}

// Rows or tokens in all, of which each sample is a run.
std::size_t steps_held(const Dataset& dataset, std::int64_t features) {
  if (dataset.kind() == SampleKind::tokens) {
    if (!dataset.samples().empty()) fail("tokens have no values beside them");
    if (features != 1) fail("the sample shape of tokens is (1)");
    return dataset.tokens().size();
  }
  if (!dataset.tokens().empty()) fail("sequences of values have no tokens");
  if (dataset.samples().size() % static_cast<std::size_t>(features) != 0)
    fail(std::to_string(dataset.samples().size()) + " values are not whole steps of " + std::to_string(features) +
         " features");
  return dataset.samples().size() / static_cast<std::size_t>(features);
}

void validate_runs(const Dataset& dataset, std::int64_t features) {
  const auto held = static_cast<std::int64_t>(steps_held(dataset, features));
  if (dataset.lengths().size() != dataset.starts().size())
    fail("there are " + std::to_string(dataset.lengths().size()) + " lengths for " + std::to_string(dataset.size()) +
         " samples");
  const std::int64_t shortest = dataset.kind() == SampleKind::tokens ? 2 : 1;
  for (std::size_t i = 0; i < dataset.starts().size(); ++i) {
    const std::int64_t start = dataset.starts()[i], length = dataset.lengths()[i];
    if (length < shortest)
      fail("sample " + std::to_string(i) + " has length " + std::to_string(length) + "; at least " +
           std::to_string(shortest) + " is needed");
    if (start < 0 || start > held || length > held - start)
      fail("sample " + std::to_string(i) + " lies outside the " + std::to_string(held) + " steps that there are");
  }
}

void validate_tokens(const Dataset& dataset) {
  if (dataset.label_kind() != LabelKind::next_token) fail("the label of tokens is the next token");
  for (std::size_t t = 0; t < dataset.tokens().size(); ++t)
    if (dataset.tokens()[t] < 0 || dataset.tokens()[t] >= dataset.classes())
      fail("token " + std::to_string(t) + " (from 0) is " + std::to_string(dataset.tokens()[t]) +
           ", but the vocabulary has " + std::to_string(dataset.classes()) + " tokens");
}

void validate_labels(const Dataset& dataset, std::int64_t features) {
  const bool by_step = dataset.label_kind() == LabelKind::step;
  if (dataset.label_kind() == LabelKind::next_token) {
    if (dataset.kind() != SampleKind::tokens) fail("the next token is no label of what is not tokens");
    if (!dataset.labels().empty()) fail("there are labels beside tokens");
    return;
  }
  const auto wanted = by_step ? dataset.samples().size() / static_cast<std::size_t>(features)
                              : static_cast<std::size_t>(dataset.size());
  if (dataset.labels().size() != wanted)
    fail("there are " + std::to_string(dataset.labels().size()) + " labels for " + std::to_string(wanted) +
         (by_step ? " steps" : " samples"));
  const std::int64_t least = by_step ? -1 : 0;
  for (std::size_t i = 0; i < wanted; ++i)
    if (dataset.labels()[i] < least || dataset.labels()[i] >= dataset.classes())
      fail((by_step ? "step " : "sample ") + std::to_string(i) + " has label " + std::to_string(dataset.labels()[i]) +
           ", but there are " + std::to_string(dataset.classes()) + " classes");
}

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
  if (dataset.kind() != SampleKind::fixed) hash_sequences(hasher, dataset);
  return hasher.finish();
}

void validate_dataset(const Dataset& dataset) {
  if (dataset.size() == 0) fail("there are no samples");
  if (dataset.sample_shape().empty()) fail("samples have no shape");
  const bool tokens = dataset.kind() == SampleKind::tokens;
  const std::int64_t features = checked_elements(
      dataset.sample_shape(), tokens ? 1 : static_cast<std::int64_t>(dataset.samples().size()), "dataset");
  if (features == 0) fail("samples have no features");
  const auto n = static_cast<std::size_t>(dataset.size());
  if (dataset.kind() == SampleKind::fixed)
    validate_fixed(dataset, features);
  else
    validate_runs(dataset, features);
  const auto require_count = [&](std::size_t count, const char* what) {
    if (count != 0 && count != n)
      fail("there are " + std::to_string(count) + ' ' + what + " for " + std::to_string(n) + " samples");
  };
  require_count(dataset.groups().size(), "groups");
  require_count(dataset.given_folds().size(), "given folds");
  if (!dataset.one_hot().empty() && dataset.one_hot().size() != static_cast<std::size_t>(features))
    fail("the one-hot mask has " + std::to_string(dataset.one_hot().size()) + " entries for " +
         std::to_string(features) + " features");
  if (!dataset.token_bytes().empty() && dataset.token_bytes().size() != static_cast<std::size_t>(dataset.classes()))
    fail("there are " + std::to_string(dataset.token_bytes().size()) + " token sizes for a vocabulary of " +
         std::to_string(dataset.classes()));
  const auto named = static_cast<std::int64_t>(dataset.group_names().size());
  if (named != 0)
    for (const std::int64_t group : dataset.groups())
      if (group < 0 || group >= named)
        fail("a sample is of group " + std::to_string(group) + ", but " + std::to_string(named) + " have names");
  validate_labels(dataset, features);
  if (tokens)
    validate_tokens(dataset);
  else
    require_finite(dataset.samples(), features, dataset.kind() == SampleKind::fixed ? "dataset" : "dataset, by step");
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

}  // namespace tenfold

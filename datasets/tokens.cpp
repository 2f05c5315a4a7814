#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "datasets/file_content.h"
#include "datasets/loaders.h"
#include "datasets/memory_need.h"
#include "datasets/npy_array.h"
#include "datasets/token_windows.h"
#include "experiments/error.h"

namespace tenfold {
namespace {

// Different ones, where dataset.vocabulary does not say: every class has a name, and one token alone could ask for them
// all.
constexpr std::int64_t kMostTokens = std::int64_t{1} << 20;

template <class Word>
Word swapped(Word word) {
  Word result = 0;
  for (std::size_t i = 0; i < sizeof(Word); ++i)
    result = static_cast<Word>(result | static_cast<Word>(((word >> (8 * i)) & 0xFF) << (8 * (sizeof(Word) - 1 - i))));
  return result;
}

// Word is unsigned; Value is how its bits are meant.
template <class Word, class Value>
std::vector<std::int32_t> tokens_of(const RawArray& array, std::int64_t vocabulary) {
  const std::size_t count = array.data.size() / sizeof(Word);
  std::vector<std::int32_t> tokens(count);
  for (std::size_t i = 0; i < count; ++i) {
    Word word;
    std::memcpy(&word, array.data.data() + i * sizeof(Word), sizeof word);
    const auto value = std::bit_cast<Value>(array.big_endian ? swapped(word) : word);
    if (std::cmp_less(value, 0) || std::cmp_greater_equal(value, vocabulary))
      throw Error(ErrorKind::data, array.name + ": token " + std::to_string(i) + " (from 0) is " +
                                       std::to_string(value) + ", outside [0, " + std::to_string(vocabulary) +
                                       "); see dataset.vocabulary, and whether this is a file of tokens at all");
    tokens[i] = static_cast<std::int32_t>(value);
  }
  return tokens;
}

std::vector<std::int32_t> read_tokens(const RawArray& array, std::int64_t vocabulary) {
  if (array.kind == 'u' && array.item_bytes == 1) return tokens_of<std::uint8_t, std::uint8_t>(array, vocabulary);
  if (array.kind == 'u' && array.item_bytes == 2) return tokens_of<std::uint16_t, std::uint16_t>(array, vocabulary);
  if (array.kind == 'u' && array.item_bytes == 4) return tokens_of<std::uint32_t, std::uint32_t>(array, vocabulary);
  if (array.kind == 'u' && array.item_bytes == 8) return tokens_of<std::uint64_t, std::uint64_t>(array, vocabulary);
  if (array.kind == 'i' && array.item_bytes == 1) return tokens_of<std::uint8_t, std::int8_t>(array, vocabulary);
  if (array.kind == 'i' && array.item_bytes == 2) return tokens_of<std::uint16_t, std::int16_t>(array, vocabulary);
  if (array.kind == 'i' && array.item_bytes == 4) return tokens_of<std::uint32_t, std::int32_t>(array, vocabulary);
  if (array.kind == 'i' && array.item_bytes == 8) return tokens_of<std::uint64_t, std::int64_t>(array, vocabulary);
  throw Error(ErrorKind::data, array.name + ": holds no whole numbers; save tokens as uint16, uint32, int32 or int64");
}

// A view into `mapped`.
RawArray row_of_tokens(const MappedFile& mapped, const std::string& path) {
  RawArray array = parse_npy(mapped.bytes, path);
  if (array.shape.size() != 1)
    throw Error(ErrorKind::data, path + ": has " + std::to_string(array.shape.size()) +
                                     " dimensions where one long row of tokens is needed; save tokens.ravel()");
  return array;
}

}  // namespace

std::vector<std::int32_t> first_tokens(const std::string& path, std::int64_t vocabulary, std::int64_t most) {
  const MappedFile mapped = map_file(path);
  RawArray array = row_of_tokens(mapped, path);
  array.shape[0] = std::min(array.shape[0], most);
  array.data = array.data.first(static_cast<std::size_t>(array.shape[0]) * array.item_bytes);
  require_memory(static_cast<std::uint64_t>(array.shape[0]) * sizeof(std::int32_t), path);
  return read_tokens(array, vocabulary);
}

Dataset::Parts load_tokens(const DatasetSpec& spec) {
  if (spec.path.empty()) throw Error(ErrorKind::config, "dataset.path: name the npy file of tokens");
  const MappedFile mapped = map_file(spec.path);
  const RawArray array = row_of_tokens(mapped, spec.path);
  require_memory(static_cast<std::uint64_t>(array.shape[0]) * sizeof(std::int32_t), spec.path);
  Dataset::Parts parts;
  parts.tokens = read_tokens(array, spec.vocabulary > 0 ? spec.vocabulary : kMostTokens);
  cut_into_windows(parts, spec.sequence_length, spec.path);
  const std::int64_t vocabulary =
      spec.vocabulary > 0 ? spec.vocabulary : *std::max_element(parts.tokens.begin(), parts.tokens.end()) + 1;
  if (vocabulary < 2) throw Error(ErrorKind::data, spec.path + ": every token is 0; there is nothing to tell apart");
  parts.class_names.reserve(static_cast<std::size_t>(vocabulary));
  for (std::int64_t token = 0; token < vocabulary; ++token) parts.class_names.push_back(std::to_string(token));
  return parts;
}

}  // namespace tenfold

#include <algorithm>
#include <utility>

#include "datasets/file_content.h"
#include "datasets/loaders.h"
#include "datasets/memory_need.h"
#include "datasets/token_windows.h"
#include "datasets/tokenizer.h"
#include "datasets/utf8.h"
#include "experiments/error.h"

namespace tenfold {

Dataset::Parts load_text(const DatasetSpec& spec) {
  if (spec.path.empty()) throw Error(ErrorKind::config, "dataset.path: name the text file");
  const MappedFile mapped = map_file(spec.path);
  if (mapped.bytes.empty()) throw Error(ErrorKind::data, spec.path + ": is empty");
  require_utf8(mapped.text(), spec.path);
  Tokenizer tokenizer(spec.tokenizer);
  // A token of a byte each at worst.
  require_memory(mapped.bytes.size() * sizeof(std::int32_t), spec.path);
  Dataset::Parts parts;
  if (spec.tokenizer.empty()) parts.tokens.reserve(mapped.bytes.size());
  tokenizer.append(mapped.text(), parts.tokens);
  parts.class_names = tokenizer.names();
  parts.token_bytes = tokenizer.token_bytes();
  cut_into_windows(parts, spec.sequence_length, spec.path);
  return parts;
}

std::vector<std::int32_t> first_tokens_of_text(const std::string& path, const std::string& tokenizer,
                                               std::int64_t vocabulary, std::int64_t most) {
  Tokenizer made(tokenizer);
  if (made.vocabulary() > vocabulary)
    throw Error(ErrorKind::data, path + ": " + (tokenizer.empty() ? "bytes are" : tokenizer + " has") + " " +
                                     std::to_string(made.vocabulary()) + " different tokens, and the model knows " +
                                     std::to_string(vocabulary) + ": read the text with the model's own tokenizer");
  const MappedFile mapped = map_file(path);
  const std::string_view text = mapped.text();
  std::vector<std::int32_t> tokens;
  // A token is a byte at least; of a longer text, more is read until there are enough.
  for (std::size_t bytes = static_cast<std::size_t>(most);; bytes *= 4) {
    std::size_t end = std::min(bytes, text.size());
    // Not in the middle of a character.
    while (end < text.size() && end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    const std::string_view begin = text.substr(0, end);
    require_utf8(begin, path);
    require_memory(begin.size() * sizeof(std::int32_t), path);
    tokens.clear();
    made.append(begin, tokens);
    if (std::cmp_greater(tokens.size(), most) || end >= text.size() || bytes > text.size()) break;
  }
  if (std::cmp_greater(tokens.size(), most)) tokens.resize(static_cast<std::size_t>(most));
  return tokens;
}

}  // namespace tenfold

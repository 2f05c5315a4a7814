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

}  // namespace tenfold

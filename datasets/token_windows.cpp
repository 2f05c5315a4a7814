#include "datasets/token_windows.h"

#include <algorithm>

#include "experiments/error.h"

namespace tenfold {

void cut_into_windows(Dataset::Parts& parts, int sequence_length, const std::string& name) {
  const auto tokens = static_cast<std::int64_t>(parts.tokens.size());
  if (tokens < 2)
    throw Error(ErrorKind::data, name + ": has " + (tokens == 0 ? "no token" : "one token alone") +
                                     "; to predict the next one takes at least two");
  parts.kind = SampleKind::tokens;
  parts.label_kind = LabelKind::next_token;
  parts.sample_shape = {1};
  for (std::int64_t start = 0; start + 1 < tokens; start += sequence_length) {
    parts.starts.push_back(start);
    parts.lengths.push_back(std::min<std::int64_t>(sequence_length + std::int64_t{1}, tokens - start));
  }
}

}  // namespace tenfold

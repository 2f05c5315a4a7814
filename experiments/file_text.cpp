#include "experiments/file_text.h"

#include <fstream>

namespace tenfold {

std::optional<std::string> file_text(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::string text;
  // Not through iterators of the stream's buffer: they throw where a read fails, while read() notes it.
  for (char part[4096]; in;) {
    in.read(part, sizeof part);
    text.append(part, static_cast<std::size_t>(in.gcount()));
  }
  if (!in.eof()) return std::nullopt;
  return text;
}

}  // namespace tenfold

#include "datasets/utf8.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "experiments/error.h"
#include "experiments/utf8.h"

namespace tenfold {

std::string hex_byte(unsigned char byte) {
  constexpr const char* kDigits = "0123456789ABCDEF";
  return {'0', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
}

void require_utf8(std::string_view text, const std::string& name) {
  std::size_t at = 0;
  while (at < text.size()) {
    std::uint64_t eight = 0;
    if (text.size() - at >= sizeof eight) {
      std::memcpy(&eight, text.data() + at, sizeof eight);
      if ((eight & 0x8080808080808080u) == 0) {  // most texts are mostly ASCII
        at += sizeof eight;
        continue;
      }
    }
    const std::size_t bytes = utf8_character_bytes(text.substr(at));
    if (bytes == 0) {
      const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
      throw Error(ErrorKind::data, name + ":" + std::to_string(line) + ": is not UTF-8 at byte " + std::to_string(at) +
                                       " (from 0; " + hex_byte(static_cast<unsigned char>(text[at])) +
                                       "); convert the file, for example with iconv");
    }
    at += bytes;
  }
}

}  // namespace tenfold

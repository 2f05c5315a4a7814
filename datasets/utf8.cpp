#include "datasets/utf8.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "experiments/error.h"

namespace tenfold {
namespace {

// Bytes of the character at the front of `text`; 0 where there is none.
std::size_t character_bytes(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto follows = [&](std::size_t i) { return (byte(i) & 0xC0u) == 0x80u; };
  const unsigned first = byte(0), second = byte(1);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return follows(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F)) return 0;
    return follows(1) && follows(2) ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    if ((first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F)) return 0;
    return follows(1) && follows(2) && follows(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

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
    const std::size_t bytes = character_bytes(text.substr(at));
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

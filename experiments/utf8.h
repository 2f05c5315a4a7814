#pragma once

#include <cstddef>
#include <string_view>

namespace tenfold {

// Bytes of the character at the front of `text`; 0 where there is none (RFC 3629: nothing overlong, no halves of
// surrogate pairs, nothing above U+10FFFF).
std::size_t utf8_character_bytes(std::string_view text);

bool is_utf8(std::string_view text);

}  // namespace tenfold

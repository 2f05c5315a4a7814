#pragma once

#include <string>
#include <string_view>

namespace tenfold {

// Throws Error(data) with the line and the byte where `text` is not UTF-8 (RFC 3629: nothing overlong, no halves of
// surrogate pairs, nothing above U+10FFFF).
void require_utf8(std::string_view text, const std::string& name);

std::string hex_byte(unsigned char byte);  // 0x0A

}  // namespace tenfold

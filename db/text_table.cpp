#include "db/text_table.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <optional>

namespace tenfold {
namespace {

// The next code point and its bytes; empty when malformed.
std::optional<std::pair<std::uint32_t, std::size_t>> decode(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return std::pair{std::uint32_t{first}, std::size_t{1}};
  const std::size_t length = first >= 0xf0 && first < 0xf5   ? 4
                             : first >= 0xe0 && first < 0xf0 ? 3
                             : first >= 0xc2 && first < 0xe0 ? 2
                                                             : 0;
  if (length == 0 || text.size() < length) return std::nullopt;
  std::uint32_t point = first & (0xffu >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return std::nullopt;
    point = point << 6 | (byte(i) & 0x3fu);
  }
  return std::pair{point, length};
}

std::size_t width_of(std::uint32_t point) {
  if (point >= 0x300 && point < 0x370) return 0;  // combining marks
  const bool wide = (point >= 0x1100 && point < 0x1160) || (point >= 0x2e80 && point < 0xa4d0) ||
                    (point >= 0xac00 && point < 0xd7a4) || (point >= 0xf900 && point < 0xfb00) ||
                    (point >= 0xfe30 && point < 0xfe70) || (point >= 0xff00 && point < 0xff61) ||
                    (point >= 0x1f300 && point < 0x1fb00) || (point >= 0x20000 && point < 0x40000);
  return wide ? 2 : 1;
}

std::string format(const char* pattern, int precision, double value) {
  char text[400];
  std::snprintf(text, sizeof text, pattern, precision, value);
  return text;
}

}  // namespace

std::size_t display_width(std::string_view text) {
  std::size_t width = 0;
  while (!text.empty()) {
    const auto point = decode(text);
    width += point ? width_of(point->first) : 1;
    text.remove_prefix(point ? point->second : 1);
  }
  return width;
}

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const auto point = decode(text);
    const bool control =
        point && (point->first < 0x20 || (point->first >= 0x7f && point->first < 0xa0) || point->first == 0x2028 ||
                  point->first == 0x2029 || (point->first >= 0x202a && point->first < 0x202f));
    if (point && !control) {
      out += text.substr(0, point->second);
    } else if (point && point->first == '\n') {
      out += "\\n";
    } else {
      char escaped[16];
      std::snprintf(escaped, sizeof escaped, "\\x%02X", point ? point->first : static_cast<unsigned char>(text[0]));
      out += escaped;
    }
    text.remove_prefix(point ? point->second : 1);
  }
  return out;
}

std::string short_number(double value) { return format("%.*g", 7, value); }

std::string fixed_number(double value, int digits) {
  if (std::isnan(value)) return "-";
  std::string text = format("%.*f", digits, value);
  if (text.find_first_not_of("-0.") == std::string::npos && text[0] == '-') text.erase(0, 1);  // no "-0.00"
  return text;
}

std::string exact_number(double value) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

std::string pad(std::string_view text, std::size_t width, bool right) {
  const std::size_t own = display_width(text);
  const std::string blanks(width > own ? width - own : 0, ' ');
  return right ? blanks + std::string(text) : std::string(text) + blanks;
}

std::string TextTable::text(std::string_view indent) const {
  std::vector<std::size_t> widths;
  for (const Column& column : columns_) widths.push_back(display_width(column.name));
  for (const auto& row : rows_)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], display_width(row[i]));
  std::string out;
  const auto line = [&](const auto& cell) {
    std::string text(indent);
    for (std::size_t i = 0; i < columns_.size(); ++i)
      text += (i == 0 ? "" : "  ") + pad(cell(i), widths[i], columns_[i].right);
    text.erase(text.find_last_not_of(' ') + 1);
    out += text + "\n";
  };
  line([&](std::size_t i) { return columns_[i].name; });
  line([&](std::size_t i) { return std::string(widths[i], '-'); });
  for (const auto& row : rows_) line([&](std::size_t i) { return row[i]; });
  return out;
}

std::string TextTable::markdown() const {
  std::string out;
  const auto cell = [&](const std::string& text) {
    out += ' ';
    for (const char c : text) out.append(c == '|' ? "\\|" : "").append(c == '|' ? 0 : 1, c);
    out += " |";
  };
  out += '|';
  for (const Column& column : columns_) cell(column.name);
  out += "\n|";
  for (const Column& column : columns_) out += column.right ? "---:|" : "---|";
  out += '\n';
  for (const auto& row : rows_) {
    out += '|';
    for (const std::string& text : row) cell(text);
    out += '\n';
  }
  return out;
}

}  // namespace tenfold

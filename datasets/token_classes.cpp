#include "datasets/token_classes.h"

#include <algorithm>
#include <string_view>

#include "datasets/tokenizer.h"

namespace tenfold {
namespace {

bool is_digit(unsigned char c) { return c >= '0' && c <= '9'; }
bool is_letter(unsigned char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_punctuation(unsigned char c) { return c > ' ' && c < 127 && !is_digit(c) && !is_letter(c); }

enum Byte : std::uint8_t { letter, digit, whitespace, newline, punctuation, control, non_ascii };

Byte class_of_byte(unsigned char c) {
  if (is_letter(c)) return letter;
  if (is_digit(c)) return digit;
  if (c == ' ' || c == '\t') return whitespace;
  if (c == '\n' || c == '\r') return newline;
  if (is_punctuation(c)) return punctuation;
  return c < 128 ? control : non_ascii;
}

enum Piece : std::uint8_t { word_start, continuation, digits, marks, special };

Piece class_of_piece(std::string_view piece) {
  constexpr std::string_view kBlank = "\xE2\x96\x81";  // what SentencePiece writes for a blank
  if (piece.size() > 2 && piece.front() == '<' && piece.back() == '>') return special;
  const bool starts = piece.starts_with(kBlank);
  while (piece.starts_with(kBlank)) piece.remove_prefix(kBlank.size());
  if (!piece.empty() && std::all_of(piece.begin(), piece.end(), is_digit)) return digits;
  if (!piece.empty() && std::all_of(piece.begin(), piece.end(), is_punctuation)) return marks;
  return starts ? word_start : continuation;
}

}  // namespace

TokenClasses token_classes(const std::string& model) {
  TokenClasses classes;
  if (model.empty()) {
    classes.names = {"letter", "digit", "whitespace", "newline", "punctuation", "control", "non-ASCII"};
    for (int byte = 0; byte < 256; ++byte) classes.of.push_back(class_of_byte(static_cast<unsigned char>(byte)));
    return classes;
  }
  classes.names = {"word start", "continuation", "digits", "punctuation", "special or byte"};
  for (const std::string& piece : Tokenizer(model).names()) classes.of.push_back(class_of_piece(piece));
  return classes;
}

}  // namespace tenfold

#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tenfold {

// What kind of text each token stands for, so that a loss can be told apart by it.
struct TokenClasses {
  std::vector<std::string> names;
  std::vector<std::uint8_t> of;  // by token: an index into names
};

// `model` as of Tokenizer. Bytes: letter, digit, whitespace, newline, punctuation, control, non-ASCII. Pieces: word
// start, continuation, digits, punctuation, special or byte. Throws Error(data) as Tokenizer does.
TokenClasses token_classes(const std::string& model);

}  // namespace tenfold

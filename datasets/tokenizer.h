#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tenfold {

// Texts to tokens: their bytes, or the pieces of a SentencePiece model.
class Tokenizer {
 public:
  // `model`: the file of a SentencePiece model; empty for bytes. Throws Error(data).
  explicit Tokenizer(const std::string& model);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Appends the tokens of a valid UTF-8 text. Long ones are given to SentencePiece in parts of about 64 KiB that end
  // where a line ends: memory and time grow faster than the part.
  void append(std::string_view text, std::vector<std::int32_t>& tokens);

  int vocabulary() const;
  std::vector<std::string> names() const;  // a byte as its character or as 0x0A, a piece as the model has it
  // UTF-8 bytes that a token stands for: a blank of a piece is 1, a control symbol 0, the unknown token the mean
  // of what it stood for in the texts so far.
  std::vector<std::int32_t> token_bytes() const;

 private:
  struct Model;
  std::unique_ptr<Model> model_;  // none: bytes
};

}  // namespace tenfold

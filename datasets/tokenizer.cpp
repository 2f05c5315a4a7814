#include "datasets/tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <exception>
#include <iterator>
#include <new>

#include "datasets/file_content.h"
#include "datasets/utf8.h"
#include "experiments/error.h"

namespace tenfold {
namespace {

constexpr int kBytes = 256;
constexpr std::size_t kMostModelBytes = std::size_t{256} << 20;
constexpr std::size_t kPartBytes = std::size_t{1} << 16;

bool inside_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0u) == 0x80u; }

// Bytes of the first part of `text`: up to a line's end, or else up to a character's.
std::size_t part_of(std::string_view text) {
  if (text.size() <= kPartBytes) return text.size();
  const std::size_t line_end = text.rfind('\n', kPartBytes - 1);
  if (line_end != std::string_view::npos) return line_end + 1;
  std::size_t end = kPartBytes;
  while (inside_character(text[end])) --end;
  return end;
}

std::string byte_name(int byte) {
  if (byte > 0x20 && byte < 0x7F) return std::string(1, static_cast<char>(byte));
  return hex_byte(static_cast<unsigned char>(byte));
}

// SentencePiece writes a blank as U+2581, of three bytes.
std::int32_t piece_bytes(std::string_view piece) {
  constexpr std::string_view kBlank = "\xE2\x96\x81";
  auto bytes = static_cast<std::int32_t>(piece.size());
  for (std::size_t at = piece.find(kBlank); at != std::string_view::npos; at = piece.find(kBlank, at + kBlank.size()))
    bytes -= 2;
  return bytes;
}

}  // namespace

struct Tokenizer::Model {
  sentencepiece::SentencePieceProcessor processor;
  std::string name;
  std::int64_t unknown = 0, unknown_bytes = 0;  // met in texts
};

Tokenizer::Tokenizer(const std::string& model) {
  if (model.empty()) return;
  const MappedFile mapped = map_file(model);
  if (mapped.bytes.empty() || mapped.bytes.size() > kMostModelBytes)
    throw Error(ErrorKind::data, model + ": has " + std::to_string(mapped.bytes.size()) +
                                     " bytes and is no SentencePiece model; name the .model file");
  model_ = std::make_unique<Model>();
  model_->name = model;
  // What the library says of it is places in its own source; and what is inside it may throw.
  bool sound = false;
  try {
    sound = model_->processor.LoadFromSerializedProto(mapped.text()).ok() && model_->processor.GetPieceSize() >= 1;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception&) {
  }
  if (!sound)
    throw Error(ErrorKind::data,
                model + ": is not a SentencePiece model, or is damaged; name the .model file that spm_train wrote");
}

Tokenizer::~Tokenizer() = default;

int Tokenizer::vocabulary() const { return model_ == nullptr ? kBytes : model_->processor.GetPieceSize(); }

void Tokenizer::append(std::string_view text, std::vector<std::int32_t>& tokens) {
  if (model_ == nullptr) {
    std::transform(text.begin(), text.end(), std::back_inserter(tokens),
                   [](char c) { return static_cast<std::int32_t>(static_cast<unsigned char>(c)); });
    return;
  }
  while (!text.empty()) {
    const std::size_t part = part_of(text);
    sentencepiece::ImmutableSentencePieceText pieces;
    const auto status = model_->processor.Encode(text.substr(0, part), pieces.mutable_proto());
    if (!status.ok())
      throw Error(ErrorKind::data, model_->name + ": SentencePiece cannot split the text: " + status.error_message());
    for (std::size_t i = 0; i < pieces.pieces_size(); ++i) {
      const auto piece = pieces.pieces(static_cast<int>(i));
      const auto id = static_cast<std::int32_t>(piece.id());
      if (id < 0 || id >= vocabulary())
        throw Error(ErrorKind::data, model_->name + ": gives a token that its vocabulary does not have; it is damaged");
      if (model_->processor.IsUnknown(id)) {
        ++model_->unknown;
        model_->unknown_bytes += static_cast<std::int64_t>(piece.surface().size());
      }
      tokens.push_back(id);
    }
    text.remove_prefix(part);
  }
}

std::vector<std::string> Tokenizer::names() const {
  std::vector<std::string> names;
  for (int token = 0; token < vocabulary(); ++token)
    names.push_back(model_ == nullptr ? byte_name(token) : model_->processor.IdToPiece(token));
  return names;
}

std::vector<std::int32_t> Tokenizer::token_bytes() const {
  if (model_ == nullptr) return std::vector<std::int32_t>(kBytes, 1);
  std::vector<std::int32_t> bytes;
  for (int token = 0; token < vocabulary(); ++token) {
    const auto& processor = model_->processor;
    if (processor.IsUnknown(token))
      bytes.push_back(model_->unknown == 0
                          ? 1
                          : static_cast<std::int32_t>((model_->unknown_bytes + model_->unknown / 2) / model_->unknown));
    else if (processor.IsControl(token) || processor.IsUnused(token))
      bytes.push_back(0);
    else
      bytes.push_back(processor.IsByte(token) ? 1 : piece_bytes(processor.IdToPiece(token)));
  }
  return bytes;
}

}  // namespace tenfold

#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include "tests/datasets/test_files.h"

// Sound files, tar archives and a SentencePiece model, written down from the formats' descriptions.
namespace tenfold::test {

inline std::string chunk(const std::string& id, const std::string& content) {
  return id + little(content.size(), 4) + content + (content.size() % 2 == 1 ? std::string(1, '\0') : "");
}

// format 1: whole numbers, 3: floats
inline std::string wav(int rate, int channels, int format, int bits, const std::string& data) {
  const int frame = channels * bits / 8;
  const std::string header = little(static_cast<unsigned>(format), 2) + little(static_cast<unsigned>(channels), 2) +
                             little(static_cast<unsigned>(rate), 4) + little(static_cast<unsigned>(rate * frame), 4) +
                             little(static_cast<unsigned>(frame), 2) + little(static_cast<unsigned>(bits), 2);
  return chunk("RIFF", "WAVE" + chunk("fmt ", header) + chunk("data", data));
}
inline std::string wav16(int rate, const std::vector<std::int16_t>& samples, int channels = 1) {
  return wav(rate, channels, 1, 16, raw(samples));
}

inline std::vector<float> sine(double hertz, int rate, std::size_t samples, double amplitude = 1) {
  std::vector<float> values(samples);
  for (std::size_t i = 0; i < samples; ++i)
    values[i] = static_cast<float>(
        amplitude * std::sin(2 * std::numbers::pi * hertz * static_cast<double>(i) / static_cast<double>(rate)));
  return values;
}
// A short one of 8,000 samples a second.
inline std::string wav_of_sine(double hertz, std::size_t samples) {
  std::vector<std::int16_t> values;
  for (const float x : sine(hertz, 8000, samples, 0.5)) values.push_back(static_cast<std::int16_t>(32767 * x));
  return wav16(8000, values);
}

struct TarEntry {
  std::string name, content;
  char type = '0';  // 0 file, 1 hard link, 2 symbolic link, 5 folder
  std::string link = {};
  std::uint64_t claimed = UINT64_MAX;  // a size other than the content's
};

inline std::string octal(std::uint64_t value, std::size_t digits) {
  std::string text(digits, '0');
  for (std::size_t i = digits; i-- > 0; value /= 8) text[i] = static_cast<char>('0' + value % 8);
  return text;
}

inline std::string tar(const std::vector<TarEntry>& entries) {
  std::string file;
  for (const TarEntry& entry : entries) {
    std::string header(512, '\0');
    const auto put = [&](std::size_t at, const std::string& text) { header.replace(at, text.size(), text); };
    put(0, entry.name);
    put(100, octal(0644, 7));
    put(108, octal(0, 7));
    put(116, octal(0, 7));
    put(124, octal(entry.claimed == UINT64_MAX ? entry.content.size() : entry.claimed, 11));
    put(136, octal(0, 11));
    put(148, "        ");
    put(156, std::string(1, entry.type));
    put(157, entry.link);
    put(257, std::string("ustar\00000", 8));
    unsigned sum = 0;
    for (const char c : header) sum += static_cast<unsigned char>(c);
    put(148, octal(sum, 6) + std::string("\0 ", 2));
    file += header + entry.content + std::string((512 - entry.content.size() % 512) % 512, '\0');
  }
  return file + std::string(1024, '\0');
}

// A field of protocol buffers: a length and so many bytes.
inline std::string proto_bytes(int field, const std::string& content) {
  return std::string{static_cast<char>(field << 3 | 2), static_cast<char>(content.size())} + content;
}

struct Piece {
  std::string text;
  float score = 0;
  int type = 1;  // 1 normal, 2 unknown, 3 control, 6 byte
};

// A unigram model that leaves texts as they are, but for blanks.
inline std::string sentence_piece_model(const std::vector<Piece>& pieces) {
  std::string model;
  for (const Piece& piece : pieces)
    model += proto_bytes(
        1, proto_bytes(1, piece.text) + '\x15' + raw<float>({piece.score}) + '\x18' + static_cast<char>(piece.type));
  return model + proto_bytes(2, std::string("\x18\x01", 2)) + proto_bytes(3, proto_bytes(1, "identity"));
}

}  // namespace tenfold::test

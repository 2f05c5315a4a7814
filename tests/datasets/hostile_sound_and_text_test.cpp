#include <gtest/gtest.h>

#include "datasets/loaders.h"
#include "datasets/minimal_pairs.h"
#include "tests/datasets/file_attack.h"
#include "tests/datasets/sound_files.h"

namespace tenfold {
namespace {

using HostileSoundAndText = test::FileAttack;
using test::raw;

TEST_F(HostileSoundAndText, Wav) {
  std::filesystem::create_directory(folder_ / "set");
  folder_.write("set/b_x_0.wav", test::wav_of_sine(300, 100));
  const DatasetSpec sounds = spec("wav", "set");
  const std::string sound = test::wav_of_sine(500, 100);
  attack("set/a_x_0.wav", sound, [&] { load_wav(sounds); });
}

TEST_F(HostileSoundAndText, TarArchives) {
  const std::string archive = test::tar({{"s/a_x_0.wav", test::wav_of_sine(500, 200)},
                                         {"s/notes.txt", "some"},
                                         {"s/b_y_0.wav", test::wav_of_sine(700, 300)}});
  attack("set.tar", archive, [&] { load_wav(spec("wav", "set.tar")); });
  attack("set.tar.gz", test::gzipped(archive), [&] { load_wav(spec("wav", "set.tar.gz")); });
}

TEST_F(HostileSoundAndText, Tokens) {
  const std::string tokens = test::npy("<u4", "(12,)", raw<std::uint32_t>({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}));
  attack("t.npy", tokens, [&] { load_tokens(spec("tokens", "t.npy")); });
}

TEST_F(HostileSoundAndText, Texts) {
  attack("t.txt", "\xC3\xA9t\xC3\xA9, \xE2\x82\xAC 5 \xF0\x9F\x98\x80\n", [&] { load_text(spec("text", "t.txt")); });
}

TEST_F(HostileSoundAndText, SentencePieceModels) {
  std::vector<test::Piece> pieces = {{"<unk>", 0, 2}, {"<s>", 0, 3}, {"</s>", 0, 3}};
  for (const char* piece : {"to", "be", "or", "not", "t", "o", "b", "e", "r", "n", "\xE2\x96\x81"})
    pieces.push_back({piece, -1.0f - static_cast<float>(pieces.size()), 1});
  DatasetSpec text = spec("text", "t.txt");
  folder_.write("t.txt", "to be or not to be");
  text.tokenizer = (folder_ / "small.model").string();
  attack("small.model", test::sentence_piece_model(pieces), [&] { load_text(text); });
}

TEST_F(HostileSoundAndText, MinimalPairs) {
  Tokenizer bytes("");
  attack("p.jsonl",
         "{\"good\": \"to be\", \"bad\": \"be to\", \"task\": \"x\"}\n"
         "{\"good_tokens\": [1, 22, 3], \"bad_tokens\": [3, 2, 1], \"scored_from\": 2}\n",
         [&] {
           read_minimal_pairs(folder_ / "p.jsonl", &bytes, 256, {100, 100});
         });
}

}  // namespace
}  // namespace tenfold

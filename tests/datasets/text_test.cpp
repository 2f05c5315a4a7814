#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "datasets/loaders.h"
#include "datasets/token_classes.h"
#include "datasets/token_windows.h"
#include "datasets/tokenizer.h"
#include "datasets/utf8.h"
#include "tests/datasets/sound_files.h"
#include "tests/shared_data.h"

namespace tenfold {
namespace {

using test::error_of;
using test::npy;
using test::raw;
using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class TextTest : public testing::Test {
 protected:
  TextTest() { spec_.sequence_length = 4; }
  Dataset::Parts of_text(const std::string& content) {
    spec_.path = folder_.write("a.txt", content);
    return load_text(spec_);
  }
  std::string refusal_of_text(const std::string& content) {
    return error_of(ErrorKind::data, [&] { of_text(content); });
  }
  Dataset::Parts of_tokens(const std::string& content) {
    spec_.path = folder_.write("a.npy", content);
    return load_tokens(spec_);
  }
  std::string refusal_of_tokens(const std::string& content) {
    return error_of(ErrorKind::data, [&] { of_tokens(content); });
  }

  test::TemporaryFolder folder_;
  DatasetSpec spec_;
};

TEST_F(TextTest, BytesAreTokens) {
  const Dataset::Parts parts = of_text("h\xC3\xA9llo\n");
  EXPECT_EQ(parts.kind, SampleKind::tokens);
  EXPECT_EQ(parts.label_kind, LabelKind::next_token);
  EXPECT_THAT(parts.sample_shape, ElementsAre(1));
  EXPECT_THAT(parts.tokens, ElementsAre('h', 0xC3, 0xA9, 'l', 'l', 'o', '\n'));
  EXPECT_THAT(parts.labels, IsEmpty());
  EXPECT_EQ(parts.class_names.size(), 256u);
  EXPECT_EQ(parts.class_names['h'], "h");
  EXPECT_EQ(parts.class_names['\n'], "0x0A");
  EXPECT_EQ(parts.class_names[' '], "0x20");
  EXPECT_EQ(parts.class_names[0xC3], "0xC3");
  EXPECT_EQ(std::set(parts.class_names.begin(), parts.class_names.end()).size(), 256u);
  EXPECT_THAT(parts.token_bytes, Each(1));
  EXPECT_EQ(Dataset(parts).steps(0), 4);
}

TEST_F(TextTest, WindowsPredictEveryTokenButTheFirstOnce) {
  for (const std::size_t length : {2u, 4u, 5u, 6u, 8u, 9u, 13u}) {
    Dataset::Parts parts;
    parts.tokens.resize(length);
    std::iota(parts.tokens.begin(), parts.tokens.end(), 0);
    cut_into_windows(parts, 4, "w");
    std::vector<int> targets(length, 0);
    for (std::size_t i = 0; i < parts.starts.size(); ++i) {
      EXPECT_EQ(parts.starts[i], static_cast<std::int64_t>(4 * i));
      EXPECT_GE(parts.lengths[i], 2);
      EXPECT_LE(parts.lengths[i], 5);
      for (std::int64_t t = 1; t < parts.lengths[i]; ++t) ++targets.at(static_cast<std::size_t>(parts.starts[i] + t));
    }
    EXPECT_EQ(targets[0], 0) << length;
    EXPECT_EQ(std::count(targets.begin(), targets.end(), 1), static_cast<std::ptrdiff_t>(length - 1)) << length;
  }
  for (const std::size_t length : {0u, 1u}) {
    Dataset::Parts parts;
    parts.tokens.resize(length);
    EXPECT_THAT(error_of(ErrorKind::data, [&] { cut_into_windows(parts, 4, "w"); }), HasSubstr("w: has "));
  }
}

TEST_F(TextTest, RefusesWhatIsNotUtf8) {
  EXPECT_THAT(refusal_of_text("ab\ncd\xE9 f\n"), HasSubstr("a.txt:2: is not UTF-8 at byte 5 (from 0; 0xE9)"));
  for (const std::string bad : {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
                                "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xC3", "\xE2\x82", "\xF0\x9F\x98", "\xFF"}) {
    for (const std::string& before : {std::string(), std::string("12345678abc")})
      EXPECT_THAT(refusal_of_text(before + bad), HasSubstr("at byte " + std::to_string(before.size()) + " "));
    EXPECT_THAT(refusal_of_text(bad + "12345678"), HasSubstr("at byte 0 "));
  }
  for (const std::string good : {"\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
                                 "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"})
    EXPECT_NO_THROW(require_utf8(good + "12345678" + good, "t"));
  EXPECT_THAT(refusal_of_text(""), HasSubstr("a.txt: is empty"));
  EXPECT_THAT(refusal_of_text("x"), HasSubstr("one token alone"));
  spec_.path = (folder_ / "nowhere.txt").string();
  EXPECT_THAT(error_of(ErrorKind::data, [&] { load_text(spec_); }), HasSubstr("cannot be opened"));
}

std::string small_model() {
  const std::string blank = "\xE2\x96\x81";
  std::vector<test::Piece> pieces = {
      {"<unk>", 0, 2},  {"<s>", 0, 3}, {blank + "to", -1.5f},     {blank + "be", -1.5f}, {blank, -4},
      {"\xC3\xA9", -3}, {"t", -5},     {blank + "or" + blank, -2}};
  return test::sentence_piece_model(pieces);
}

TEST_F(TextTest, SentencePieceModelsGiveTheTokens) {
  spec_.tokenizer = folder_.write("small.model", small_model());
  const Dataset::Parts parts = of_text("to be t\xC3\xA9 to");
  EXPECT_THAT(parts.tokens, ElementsAre(2, 3, 4, 6, 5, 2));
  EXPECT_THAT(parts.class_names,
              ElementsAre("<unk>", "<s>", "\u2581to", "\u2581be", "\u2581", "\u00E9", "t", "\u2581or\u2581"));
  EXPECT_THAT(parts.token_bytes, ElementsAre(1, 0, 3, 3, 1, 2, 1, 4));
  EXPECT_THAT(parts.starts, ElementsAre(0, 4));
  EXPECT_THAT(parts.lengths, ElementsAre(5, 2));
}

TEST_F(TextTest, TokensAreTakenApartByWhatTheyStandFor) {
  const TokenClasses bytes = token_classes("");
  ASSERT_EQ(bytes.of.size(), 256u);
  const auto name_of = [&](char byte) { return bytes.names[bytes.of[static_cast<unsigned char>(byte)]]; };
  EXPECT_EQ(name_of('z'), "letter");
  EXPECT_EQ(name_of('0'), "digit");
  EXPECT_EQ(name_of('\t'), "whitespace");
  EXPECT_EQ(name_of('\n'), "newline");
  EXPECT_EQ(name_of('~'), "punctuation");
  EXPECT_EQ(name_of('\x7F'), "control");
  EXPECT_EQ(name_of('\xC3'), "non-ASCII");
  const TokenClasses pieces = token_classes(folder_.write("small.model", small_model()));
  std::vector<std::string> names;
  for (const std::uint8_t index : pieces.of) names.push_back(pieces.names[index]);
  EXPECT_THAT(names, ElementsAre("special or byte", "special or byte", "word start", "word start", "word start",
                                 "continuation", "continuation", "word start"));
}

TEST_F(TextTest, UnknownTokensCountTheBytesThatTheyStoodFor) {
  spec_.tokenizer = folder_.write("small.model", small_model());
  const Dataset::Parts parts = of_text("to \xE2\x82\xAC\xE2\x82\xAC to");
  EXPECT_EQ(std::count(parts.tokens.begin(), parts.tokens.end(), 0), 1);  // neighbours that are unknown are one
  EXPECT_EQ(parts.token_bytes[0], 6);
}

TEST_F(TextTest, LongTextsAreSplitAtLineEnds) {
  spec_.tokenizer = folder_.write("small.model", small_model());
  Tokenizer tokenizer(spec_.tokenizer);
  std::string text;
  std::vector<std::int32_t> lines, whole;
  for (int i = 0; i < 30'000; ++i) text += i % 3 == 0 ? " to be\n" : " be to be\n";
  tokenizer.append(text, whole);
  EXPECT_GT(text.size(), 200'000u);
  EXPECT_EQ(std::count(whole.begin(), whole.end(), 3), 10'000 + 2 * 20'000);
  // Without line ends, parts end at characters: none is cut.
  std::string accents = "x";
  for (int i = 0; i < 100'000; ++i) accents += "\xC3\xA9";
  std::vector<std::int32_t> tokens;
  tokenizer.append(accents, tokens);
  EXPECT_EQ(std::count(tokens.begin(), tokens.end(), 5), 100'000);
}

TEST_F(TextTest, RefusesModelsThatAreNone) {
  for (const std::string content : {"", "words", "\x0A\xFF\xFF\xFF\xFF\x0F"}) {
    spec_.tokenizer = folder_.write("bad.model", content);
    EXPECT_THAT(refusal_of_text("to be"), HasSubstr("bad.model: "));
  }
  spec_.tokenizer = (folder_ / "nowhere.model").string();
  EXPECT_THAT(refusal_of_text("to be"), HasSubstr("nowhere.model"));
}

TEST_F(TextTest, TokensOfEveryTypeOfNumbers) {
  const auto shape = [](std::size_t n) { return "(" + std::to_string(n) + ",)"; };
  const std::vector<std::int32_t> expected = {3, 0, 200, 7, 1, 2};
  for (const std::string& content : {npy("<u2", shape(6), raw<std::uint16_t>({3, 0, 200, 7, 1, 2})),
                                     npy("<u4", shape(6), raw<std::uint32_t>({3, 0, 200, 7, 1, 2})),
                                     npy("<i4", shape(6), raw<std::int32_t>({3, 0, 200, 7, 1, 2})),
                                     npy("<i8", shape(6), raw<std::int64_t>({3, 0, 200, 7, 1, 2})),
                                     npy("|u1", shape(6), raw<std::uint8_t>({3, 0, 200, 7, 1, 2})),
                                     npy(">u2", shape(6), std::string("\0\3\0\0\0\xC8\0\7\0\1\0\2", 12))}) {
    const Dataset::Parts parts = of_tokens(content);
    EXPECT_EQ(parts.tokens, expected);
    EXPECT_EQ(parts.class_names.size(), 201u);
    EXPECT_EQ(parts.class_names[200], "200");
    EXPECT_THAT(parts.starts, ElementsAre(0, 4));
    EXPECT_THAT(parts.lengths, ElementsAre(5, 2));
    EXPECT_THAT(parts.token_bytes, IsEmpty());
    EXPECT_EQ(Dataset(parts).classes(), 201);
  }
  spec_.vocabulary = 256;
  EXPECT_EQ(of_tokens(npy("<u2", "(2,)", raw<std::uint16_t>({1, 2}))).class_names.size(), 256u);
}

TEST_F(TextTest, RefusesTokensOutOfRange) {
  EXPECT_THAT(refusal_of_tokens(npy("<i4", "(3,)", raw<std::int32_t>({1, -1, 2}))),
              HasSubstr("a.npy: token 1 (from 0) is -1"));
  EXPECT_THAT(refusal_of_tokens(npy("<i8", "(3,)", raw<std::int64_t>({1, 0, std::int64_t{1} << 40}))),
              HasSubstr("token 2 (from 0) is 1099511627776, outside [0, 1048576)"));
  EXPECT_THAT(refusal_of_tokens(npy("<f4", "(2,)", raw<float>({1, 2}))), HasSubstr("holds no whole numbers"));
  EXPECT_THAT(refusal_of_tokens(npy("<u2", "(2, 2)", raw<std::uint16_t>({1, 2, 3, 4}))),
              HasSubstr("2 dimensions where one long row of tokens is needed"));
  EXPECT_THAT(refusal_of_tokens(npy("<u2", "(2,)", raw<std::uint16_t>({0, 0}))), HasSubstr("every token is 0"));
  EXPECT_THAT(refusal_of_tokens(npy("<u2", "(1,)", raw<std::uint16_t>({3}))), HasSubstr("one token alone"));
  EXPECT_THAT(refusal_of_tokens(npy("<u2", "(0,)", "")), HasSubstr("no token"));
  spec_.vocabulary = 4;
  EXPECT_THAT(refusal_of_tokens(npy("<u2", "(3,)", raw<std::uint16_t>({3, 4, 1}))),
              AllOf(HasSubstr("token 1 (from 0) is 4, outside [0, 4)"), HasSubstr("dataset.vocabulary")));
}

TEST_F(TextTest, LoadsTinyShakespeare) {
  spec_.path = test::shared_data("tinyshakespeare.txt").string();
  if (!std::filesystem::exists(spec_.path)) GTEST_SKIP() << spec_.path << " is not there";
  spec_.sequence_length = 256;
  const Dataset::Parts parts = load_text(spec_);
  EXPECT_EQ(parts.tokens.size(), 1'115'394u);
  EXPECT_EQ(parts.starts.size(), 4358u);
  EXPECT_EQ(parts.lengths.front(), 257);
  EXPECT_EQ(parts.lengths.back(), 2);
  EXPECT_EQ(std::set(parts.tokens.begin(), parts.tokens.end()).size(), 65u);
  EXPECT_EQ(std::string(parts.tokens.begin(), parts.tokens.begin() + 14), "First Citizen:");
}

}  // namespace
}  // namespace tenfold

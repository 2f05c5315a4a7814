#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <sstream>

#include "tests/experiments/samples.h"

namespace tenfold::testing {
namespace {

using ::testing::HasSubstr;

TEST(HostileFiles, AliasesDoNotExplode) {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    std::string list;
    for (int j = 0; j < 10; ++j) list.append(j > 0 ? ", *a" : "*a").append(std::to_string(i - 1));
    const std::string name = std::to_string(i);
    text.append("a").append(name).append(": &a").append(name).append(" [").append(list).append("]\n");
  }
  EXPECT_THAT(refusal(text), HasSubstr("aliases count as often as they are used"));
  // A long text that is named often.
  std::string copies = "a: &a \"" + std::string(1'000'000, 'x') + "\"\nb: [";
  for (int i = 0; i < 200'000; ++i) copies += "*a, ";
  EXPECT_THAT(refusal(copies + "1]"), HasSubstr("aliases count as often as they are used"));
}

TEST(HostileFiles, DepthAndSizeAreBounded) {
  EXPECT_THAT(refusal("a: " + std::string(10'000, '[')), HasSubstr("nested more than 32 deep"));
  EXPECT_THAT(refusal(std::string(200, '{')), HasSubstr("x.yaml:1:"));
  EXPECT_THAT(refusal(std::string(5 << 20, '#')), HasSubstr("larger than 4 MiB"));
  std::string many = "dataset: digits\n";
  for (int i = 0; i < 20'000; ++i) many += "key" + std::to_string(i) + ": 1\n";
  EXPECT_THAT(refusal(many), HasSubstr("unknown key \"key0\""));
}

TEST(HostileFiles, AnchorsAreFineInMeasure) {
  const Experiment experiment = parsed("dataset: digits\ntrain: {batch_size: &n 16}\nttt: {batch_size: *n}");
  EXPECT_EQ(experiment.base().ttt.batch_size, 16);
  EXPECT_THAT(refusal("dataset: &d [*d]"), HasSubstr("x.yaml:1:"));
}

// Cuts, doubles, swaps and overwrites pieces of a valid file: it is read, or refused with a config error.
TEST(HostileFiles, DamagedFilesNeverCrash) {
  std::ifstream stream(source_folder() / "experiments/digits.yaml");
  std::stringstream buffer;
  buffer << stream.rdbuf();
  std::string valid = buffer.str();
  valid.insert(valid.find("sweep:\n") + 7, "  cases: {a: {seed: 1}, b: {}}\n  include: [{seed: 2}]\n");
  ASSERT_EQ(refusal(valid), "");
  ASSERT_GT(valid.size(), 500u);
  static constexpr std::string_view kPieces[] = {"[",  "]",  "{",  "}",      ":",      ": ",    "\n",   "- ", "&a ",
                                                 "*a", "!!", "|",  "null",   "...",    "---\n", "\xff", "\"", "1e999",
                                                 "-1", ",",  "? ", "<<: *a", "sweep:", "kind",  "\t",   "'"};
  std::mt19937 random(20261122);
  int read = 0, refused = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string text = i % 3 == 0 ? std::string(kPieces[random() % std::size(kPieces)]) : valid;
    for (std::uint32_t edit = 0; edit <= random() % 6; ++edit) {
      const std::size_t at = random() % (text.size() + 1), length = random() % 40;
      switch (random() % 4) {
        case 0:
          text.erase(std::min(at, text.size()), length);
          break;
        case 1:
          text.insert(at, kPieces[random() % std::size(kPieces)]);
          break;
        case 2:
          text.insert(at, text.substr(random() % (text.size() + 1), length));
          break;
        default:
          if (at < text.size()) text[at] = static_cast<char>(random());
      }
    }
    try {
      parsed(text);
      ++read;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::config) << error.what();
      EXPECT_STRNE(error.what(), "");
      ++refused;
    }
  }
  EXPECT_GT(read, 10);
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace tenfold::testing

#include "datasets/minimal_pairs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "experiments/proportion.h"
#include "tests/datasets/test_files.h"

namespace tenfold {
namespace {

using test::error_of;
using testing::ElementsAre;
using testing::HasSubstr;

class MinimalPairsTest : public testing::Test {
 protected:
  MinimalPairs read(const std::string& content, const MinimalPairLimits& limits = {}) {
    return read_minimal_pairs(folder_.write("pairs.jsonl", content), &bytes_, 256, limits);
  }
  std::string refusal(const std::string& content, const MinimalPairLimits& limits = {}) {
    return error_of(ErrorKind::data, [&] { read(content, limits); });
  }

  test::TemporaryFolder folder_;
  Tokenizer bytes_{""};
};

TEST_F(MinimalPairsTest, ReadsTextsAndTokens) {
  const MinimalPairs pairs = read(
      "{\"good\": \"a cat\", \"bad\": \"a tac\", \"task\": \"words\", \"id\": 7}\r\n"
      "\n"
      "{\"good_tokens\": [1, 2, 3], \"bad_tokens\": [1, 255], \"scored_from\": 1}\n"
      "  {\"good_tokens\": [5, 6, 7, 8], \"bad\": \"\\u00e9!\", \"scored_from\": 2, \"task\": \"mixed\"}");
  ASSERT_EQ(pairs.items.size(), 3u);
  EXPECT_THAT(pairs.items[0].good, ElementsAre('a', ' ', 'c', 'a', 't'));
  EXPECT_THAT(pairs.items[0].bad, ElementsAre('a', ' ', 't', 'a', 'c'));
  EXPECT_EQ(pairs.items[0].task, "words");
  EXPECT_EQ(pairs.items[0].scored_from, 1);
  EXPECT_EQ(pairs.items[0].line, 1);
  EXPECT_THAT(pairs.items[1].bad, ElementsAre(1, 255));
  EXPECT_EQ(pairs.items[1].task, "");
  EXPECT_EQ(pairs.items[1].line, 3);
  EXPECT_THAT(pairs.items[2].bad, ElementsAre(0xC3, 0xA9, '!'));
  EXPECT_EQ(pairs.items[2].scored_from, 2);
}

TEST_F(MinimalPairsTest, LimitsLeaveOutWholePairsAndCountThem) {
  const std::string file =
      "{\"good\": \"ab\", \"bad\": \"ba\"}\n"
      "{\"good\": \"ab\", \"bad\": \"abcdef\"}\n"
      "{\"good\": \"cd\", \"bad\": \"dc\"}\n"
      "{\"good\": \"ef\", \"bad\": \"fe\"}\n";
  const MinimalPairs pairs = read(file, {2, 5});
  ASSERT_EQ(pairs.items.size(), 2u);
  EXPECT_EQ(pairs.items[1].line, 3);
  EXPECT_EQ(pairs.left_out_long, 1);
  EXPECT_EQ(pairs.left_out_more, 1);
  EXPECT_EQ(pairs.limits.max_items, 2);
  EXPECT_EQ(read(file).items.size(), 4u);
  EXPECT_THAT(refusal(file, {0, 1}),
              HasSubstr("pairs.jsonl: each of its 4 pairs has a variant of more than max_tokens"));
}

TEST_F(MinimalPairsTest, RefusesWithFileAndLine) {
  const std::string first = "{\"good\": \"ab\", \"bad\": \"ba\"}\n";
  const auto at_line_2 = [&](const std::string& line) {
    const std::string message = refusal(first + line + "\n");
    EXPECT_THAT(message, HasSubstr("pairs.jsonl:2: ")) << line;
    return message;
  };
  EXPECT_THAT(at_line_2("{\"good\": \"ab\", \"bad\": "), HasSubstr("is not JSON (at character"));
  EXPECT_THAT(at_line_2("{\"good\": \"a\xFF\", \"bad\": \"b\"}"), HasSubstr("is not JSON"));
  EXPECT_THAT(at_line_2("[1, 2]"), HasSubstr("is not a JSON object"));
  EXPECT_THAT(at_line_2("{\"good\": \"ab\"}"), HasSubstr("has neither \"bad\" nor \"bad_tokens\""));
  EXPECT_THAT(at_line_2("{\"good\": \"ab\", \"good_tokens\": [1], \"bad\": \"ab\"}"), HasSubstr("has both"));
  EXPECT_THAT(at_line_2("{\"good\": 3, \"bad\": \"ab\"}"), HasSubstr("\"good\" is not a text"));
  EXPECT_THAT(at_line_2("{\"good\": \"ab\", \"bad_tokens\": \"ab\"}"), HasSubstr("is not a list of whole numbers"));
  for (const char* token : {"256", "-1", "1.5", "\"a\"", "1e99", "[[[[]]]]"})
    EXPECT_THAT(at_line_2("{\"good\": \"ab\", \"bad_tokens\": [1, " + std::string(token) + "]}"),
                HasSubstr("\"bad_tokens\"[1] is "));
  EXPECT_THAT(at_line_2("{\"good\": \"a\", \"bad\": \"ab\"}"), HasSubstr("the \"good\" variant has 1 tokens"));
  EXPECT_THAT(at_line_2("{\"good\": \"ab\", \"bad\": \"abc\", \"scored_from\": 2}"),
              HasSubstr("nothing would be scored"));
  EXPECT_THAT(at_line_2("{\"good\": \"ab\", \"bad\": \"abc\", \"scored_from\": -1}"), HasSubstr("\"scored_from\""));
  EXPECT_THAT(at_line_2("{\"good\": \"ab\", \"bad\": \"abc\", \"task\": 3}"), HasSubstr("\"task\" is not a text"));
  // Brackets that are closed, too: telling of a value must not follow them down.
  const std::string deep = std::string(2'000'000, '[') + std::string(2'000'000, ']');
  for (const std::string& line :
       {std::string(200'000, '['), deep, "{\"good\": \"ab\", \"bad_tokens\": [" + deep + "]}"})
    EXPECT_THAT(at_line_2(line), HasSubstr("nested more than 64 deep"));
  EXPECT_THAT(refusal("\n \n"), HasSubstr("holds no pair"));
  EXPECT_THAT(refusal(""), HasSubstr("holds no pair"));
}

TEST_F(MinimalPairsTest, TextsNeedATokenizerOfTheModels) {
  const std::string file = folder_.write("p", "{\"good\": \"ab\", \"bad\": \"ba\"}\n");
  EXPECT_THAT(error_of(ErrorKind::data, [&] { read_minimal_pairs(file, nullptr, 256); }),
              HasSubstr("the model has learned from tokens"));
  EXPECT_THAT(error_of(ErrorKind::data, [&] { read_minimal_pairs(file, &bytes_, 100); }),
              HasSubstr("the model has only 100"));
}

PairLoss loss(double good, double good_weight, double bad, double bad_weight) {
  return {{good, good_weight}, {bad, bad_weight}};
}

TEST(PairScoreTest, NormalisesByLengthAndHalvesTies) {
  // 3 / 3 < 4 / 2, although its sum would be; 6 / 3 > 3 / 2; 4 / 4 = 2 / 2.
  const std::vector<PairLoss> losses = {loss(3, 3, 4, 2), loss(6, 3, 3, 2), loss(4, 4, 2, 2), loss(5, 10, 2, 2)};
  const PairScore score = score_pairs(losses);
  EXPECT_EQ(score.hits, 2);
  EXPECT_EQ(score.ties, 1);
  EXPECT_EQ(score.total, 4);
  EXPECT_EQ(score.undefined, 0);
  EXPECT_DOUBLE_EQ(score.score, 2.5 / 4);
  EXPECT_LT(score.low, score.score);
  EXPECT_GT(score.high, score.score);
}

TEST(PairScoreTest, WeighsCodebooks) {
  // The first codebook counts 100 times: (100 x 1 + 1 x 50) / 101 < (100 x 2 + 1 x 1) / 101.
  EXPECT_EQ(score_pairs(std::vector{loss(150, 101, 201, 101)}).hits, 1);
}

TEST(PairScoreTest, WhatIsNotANumberIsNoHit) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinite = std::numeric_limits<double>::infinity();
  const std::vector<PairLoss> losses = {loss(nan, 1, 1, 1), loss(1, 1, nan, 1), loss(0, 0, 1, 1),
                                        loss(1, 1, infinite, 1)};
  const PairScore score = score_pairs(losses);
  EXPECT_EQ(score.hits, 1);
  EXPECT_EQ(score.undefined, 3);
  EXPECT_EQ(score.total, 4);
}

TEST(PairScoreTest, TasksAreMeanedWithEqualWeight) {
  MinimalPairs pairs;
  for (const char* task : {"words", "story", "words", "words"}) pairs.items.push_back({task, {}, {}, 1, 1});
  const PairScores scores =
      score_tasks(pairs, std::vector{loss(1, 1, 2, 1), loss(2, 1, 1, 1), loss(1, 1, 2, 1), loss(1, 1, 2, 1)});
  ASSERT_EQ(scores.tasks.size(), 2u);
  EXPECT_EQ(scores.tasks[0].task, "story");
  EXPECT_EQ(scores.tasks[0].score, 0);
  EXPECT_EQ(scores.tasks[1].score, 1);
  EXPECT_EQ(scores.tasks[1].total, 3);
  EXPECT_DOUBLE_EQ(scores.overall, 0.5);
  error_of(ErrorKind::internal, [&] { score_tasks(pairs, {}); });
  error_of(ErrorKind::internal, [] { score_pairs({}); });
}

TEST(WilsonIntervalTest, SolvesItsEquation) {
  // Its ends are the shares p at which the seen share lies z standard deviations of p away.
  const double z = 1.959963984540054;
  for (const auto& [hits, total] : {std::pair{7.0, 12.0}, {1.0, 40.0}, {499.5, 1000.0}}) {
    const ProportionInterval interval = wilson_interval(hits / total, total);
    for (const double p : {interval.low, interval.high})
      EXPECT_NEAR(std::abs(hits / total - p), z * std::sqrt(p * (1 - p) / total), 1e-12);
    EXPECT_LT(interval.low, hits / total);
    EXPECT_GT(interval.high, hits / total);
  }
  EXPECT_NEAR(wilson_interval(0, 10).low, 0, 1e-12);
  EXPECT_GE(wilson_interval(0, 10).low, 0);
  EXPECT_NEAR(wilson_interval(0, 10).high, z * z / (10 + z * z), 1e-12);
  EXPECT_NEAR(wilson_interval(1, 10).high, 1, 1e-12);
  EXPECT_LE(wilson_interval(1, 10).high, 1);
  EXPECT_EQ(wilson_interval(0, 0).high, 1);
}

}  // namespace
}  // namespace tenfold

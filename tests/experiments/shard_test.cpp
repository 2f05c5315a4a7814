#include "experiments/shard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/experiments/samples.h"

namespace tenfold::testing {
namespace {

using ::testing::HasSubstr;

constexpr const char* kText = R"(name: x
dataset: {kind: digits}
folds: {kind: stratified, k: 5}
model: {kind: mlp, hidden: [16]}
ttt: {method: tent, steps: 2}
sweep:
  train.batch_size: [16, 32]
  ttt.lr: [1e-4, 1e-3]
)";

TEST(ShardTest, PartsAreDisjointEvenAndTogetherAll) {
  const Experiment experiment = parsed(kText);
  const Plan whole = make_plan(experiment, summary_of);
  ASSERT_EQ(whole.fits.size(), 10u);
  std::multiset<Digest> fits, trials;
  for (int index = 1; index <= 3; ++index) {
    const Plan part = take_shard(whole, {index, 3});
    EXPECT_GE(part.fits.size(), 3u);
    EXPECT_LE(part.fits.size(), 4u);
    for (const FitUnit& fit : part.fits) fits.insert(fit.identity);
    for (const TrialUnit& trial : part.trials) {
      trials.insert(trial.identity);
      ASSERT_LT(static_cast<std::size_t>(trial.fit), part.fits.size());
      EXPECT_EQ(part.fits[static_cast<std::size_t>(trial.fit)].split, trial.split) << "a trial stays with its fit";
    }
  }
  std::multiset<Digest> all_fits, all_trials;
  for (const FitUnit& fit : whole.fits) all_fits.insert(fit.identity);
  for (const TrialUnit& trial : whole.trials) all_trials.insert(trial.identity);
  EXPECT_EQ(fits, all_fits);
  EXPECT_EQ(trials, all_trials);
}

TEST(ShardTest, MorePartsThanFitsLeaveSomeEmpty) {
  const Plan whole = make_plan(parsed(kText), summary_of);
  EXPECT_EQ(take_shard(whole, {10, 12}).fits.size(), 1u);
  EXPECT_TRUE(take_shard(whole, {11, 12}).fits.empty());
  EXPECT_TRUE(take_shard(whole, {11, 12}).trials.empty());
}

TEST(ShardTest, TheOrderOfTheFileDoesNotMatter) {
  std::string turned = kText;
  turned.replace(turned.find("[16, 32]"), 8, "[32, 16]");
  std::set<Digest> one, other;
  for (const FitUnit& fit : take_shard(make_plan(parsed(kText), summary_of), {2, 4}).fits) one.insert(fit.identity);
  for (const FitUnit& fit : take_shard(make_plan(parsed(turned), summary_of), {2, 4}).fits) other.insert(fit.identity);
  EXPECT_EQ(one, other);
}

TEST(ShardTest, ReadsAndNamesParts) {
  EXPECT_EQ(to_string(parse_shard("3/8")), "3/8");
  EXPECT_TRUE(parse_shard("1/1").is_all());
  for (const char* wrong : {"", "3", "0/8", "9/8", "3/", "/8", "-1/8", "3/8x", "1/1000000"}) {
    try {
      parse_shard(wrong);
      ADD_FAILURE() << wrong;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("INDEX/COUNT"));
    }
  }
  EXPECT_EQ(shard_store("a/results.db", {3, 8}), "a/results.shard-3-of-8.db");
  EXPECT_EQ(shard_store("a/results.db", {}), "a/results.db");
}

}  // namespace
}  // namespace tenfold::testing

#include "trainer/pair_evaluation.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>

#include "experiments/metric.h"
#include "experiments/proportion.h"
#include "tests/trainer/array_harness.h"
#include "trainer/array.h"

namespace tenfold::testing {
namespace {

// Two tasks of unequal size, variants of many lengths, one pair that is a tie.
constexpr const char* kPairs =
    "{\"good\": \"the cat sat on the mat\", \"bad\": \"the cat mat on sat the the\", \"task\": \"order\"}\n"
    "{\"good\": \"ab\", \"bad\": \"ba\", \"task\": \"order\"}\n"
    "{\"good\": \"a dog barks at night\", \"bad\": \"a dog bark at night\", \"task\": \"order\", \"scored_from\": 7}\n"
    "{\"good\": \"same\", \"bad\": \"same\", \"task\": \"order\"}\n"
    "{\"good_tokens\": [1, 200, 3, 4, 5, 6, 7, 8, 9], \"bad_tokens\": [9, 8, 7], \"task\": \"numbers\"}\n";

class PairEvaluationTest : public ::testing::TestWithParam<const char*> {
 protected:
  PairEvaluationTest() {
    std::ofstream(space_.folder() / "pairs.jsonl") << kPairs;
    std::ofstream text(space_.folder() / "text.txt");
    for (int i = 0; i < 90; ++i) text << "line " << i * 7919 % 1000 << " of a small text about cats and mats\n";
    text.close();
    spec_ = spec_from_yaml("dataset: {kind: text, path: " + (space_.folder() / "text.txt").string() +
                           ", sequence_length: 24}\n"
                           "folds: {kind: kfold, k: 3}\nmodel: " +
                           GetParam() +
                           "\n"
                           "train: {steps: 6, batch_size: 8, optimizer: {kind: adamw, lr: 0.01}}\n"
                           "ttt: {steps: 2, batch_size: 8, lr: 0.01, query_size: 20, eval_every_steps: 1}\n"
                           "metrics: [nll]\n"
                           "diagnostics: {minimal_pairs: " +
                           (space_.folder() / "pairs.jsonl").string() + "}\n");
  }

  ModelState initial(const Model& model, std::initializer_list<int> folds) const {
    std::vector<ModelState> states;
    for (const int fold : folds) states.push_back(initial_state(model.layout(), 3, 0, fold));
    return stack_states(states, at::kCPU);
  }
  std::unique_ptr<Model> model() const {
    return make_model(spec_.model, {{1}, 256, SampleKind::tokens, LabelKind::next_token}, false);
  }
  // Each variant alone, without padding.
  VariantLoss slow(const Model& model, ModelState& state, const std::vector<std::int32_t>& tokens,
                   std::int64_t scored_from) const {
    const at::NoGradGuard no_grad;
    const at::Tensor all = at::tensor(tokens, at::kInt).to(at::kLong).view({1, 1, -1});
    const std::int64_t steps = all.size(2) - 1;
    const Batch batch{all.narrow(2, 0, steps).contiguous(), at::ones({1, 1, steps})};
    ForwardMode mode;
    mode.sample_weight = at::ones({1, 1});
    const at::Tensor scores = at::log_softmax(model.forward(state, batch, mode).to(at::kDouble), -1);
    VariantLoss loss;
    for (std::int64_t t = scored_from; t <= steps; ++t) {
      loss.sum -= scores[0][t - 1][tokens[static_cast<std::size_t>(t)]].item<double>();
      loss.weight += 1;
    }
    return loss;
  }

  Workspace space_;
  ExperimentSpec spec_;
};

TEST_P(PairEvaluationTest, LossesAreThoseOfEachVariantAlone) {
  const auto model = this->model();
  ModelState states = initial(*model, {0, 1, 2});
  const PairEvaluation evaluation(spec_, 256, at::kCPU);
  const auto losses = evaluation.losses(*model, states, {true, false, true}, {});
  ASSERT_EQ(losses.size(), 3u);
  EXPECT_TRUE(losses[1].empty());
  Tokenizer bytes("");
  const MinimalPairs pairs = read_minimal_pairs(space_.folder() / "pairs.jsonl", &bytes, 256);
  for (const int k : {0, 2}) {
    ModelState alone = initial(*model, {k});
    ASSERT_EQ(losses[static_cast<std::size_t>(k)].size(), 5u);
    for (std::size_t i = 0; i < 5; ++i) {
      const MinimalPair& pair = pairs.items[i];
      const PairLoss& loss = losses[static_cast<std::size_t>(k)][i];
      const VariantLoss good = slow(*model, alone, pair.good, pair.scored_from);
      const VariantLoss bad = slow(*model, alone, pair.bad, pair.scored_from);
      EXPECT_EQ(loss.good.weight, good.weight);
      EXPECT_EQ(loss.bad.weight, bad.weight);
      EXPECT_NEAR(loss.good.sum, good.sum, 1e-4 * good.sum) << i;
      EXPECT_NEAR(loss.bad.sum, bad.sum, 1e-4 * bad.sum) << i;
    }
    EXPECT_EQ(losses[static_cast<std::size_t>(k)][3].good.sum, losses[static_cast<std::size_t>(k)][3].bad.sum);
    const auto again = evaluation.losses(*model, alone, {true}, {});
    for (std::size_t i = 0; i < 5; ++i)
      EXPECT_EQ(again[0][i].good.sum, losses[static_cast<std::size_t>(k)][i].good.sum) << "not of the member alone";
  }
}

TEST_P(PairEvaluationTest, TrialsReportThemBeforeAndAfter) {
  const Fits fits = fit(space_, spec_, 2, "f");
  std::vector<Case> cases;
  for (int fold = 0; fold < 2; ++fold) cases.push_back({spec_, 0, fold, {}, fits.last[static_cast<std::size_t>(fold)]});
  const Recorder both = run(space_, Stage::adapt, cases, "both");
  const Recorder alone = run(space_, Stage::adapt, {cases[1]}, "alone");
  expect_equal(both.members.at(1), alone.members.at(0));
  for (std::size_t k = 0; k < 2; ++k) {
    const Recorder::Member& member = both.members.at(k);
    ASSERT_EQ(member.outcome.status, TrialStatus::done) << member.outcome.reason;
    std::vector<EvaluationRow> overall;
    for (const EvaluationRow& row : member.evaluations)
      if (row.metric == metric_index("minimal_pairs")) overall.push_back(row);
    ASSERT_EQ(overall.size(), 3u);  // before, after pass 0, after pass 1
    EXPECT_EQ(overall[0].phase, Phase::before);
    EXPECT_EQ(overall[2].phase, Phase::after);
    EXPECT_EQ(overall[2].step, 1);
    ASSERT_EQ(member.pair_scores.size(), 6u);
    for (std::size_t i = 0; i < 3; ++i) {
      const PairScoreRow &numbers = member.pair_scores[2 * i], &order = member.pair_scores[2 * i + 1];
      EXPECT_STREQ(numbers.task, "numbers");
      EXPECT_STREQ(order.task, "order");
      EXPECT_EQ(order.total, 4);
      EXPECT_EQ(order.ties, 1);
      EXPECT_EQ(order.phase, overall[i].phase);
      EXPECT_EQ(order.score, (static_cast<double>(order.hits) + 0.5) / 4);
      EXPECT_EQ(order.low, wilson_interval(order.score, 4).low);
      EXPECT_EQ(overall[i].value, (numbers.score + order.score) / 2);
      EXPECT_EQ(overall[i].hits, -1) << "half a hit is no count";
      EXPECT_EQ(overall[i].total, 5);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models, PairEvaluationTest,
    ::testing::Values("{kind: transformer_lm, layers: 1, width: 16, heads: 2, feed_forward: 24}",
                      "{kind: ttt_lm, layers: 1, width: 16, heads: 2, feed_forward: 24, ttt: {mini_batch_size: 4}}"));

}  // namespace
}  // namespace tenfold::testing

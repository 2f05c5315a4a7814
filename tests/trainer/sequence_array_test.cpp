// Arrays of sequence and language models: they learn, and a member's results are the same bits whatever array it is
// computed in, resumed or in one go.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "tests/trainer/array_harness.h"

namespace tenfold::testing {
namespace {

std::string text_file(const Workspace& space) {
  const std::filesystem::path file = space.folder() / "text.txt";
  std::ofstream out(file);
  for (int i = 0; i < 160; ++i) out << "to be or not to be, that is question " << i % 7 << ".\n";
  return file.string();
}

ExperimentSpec sequences(const std::string& model, const std::string& more = "") {
  return spec_from_yaml(
      "dataset: {kind: synthetic_sequences, samples: 90, features: 10, classes: 4, group_count: 3, min_steps: 3, "
      "max_steps: 21, mean_steps: 9, transform: log1p, separation: 3, length_buckets: 3}\n"
      "folds: {kind: kfold, k: 3, validation: 0.1}\n"
      "model: " +
      model +
      "\n"
      "train: {epochs: 3, batch_size: 8, optimizer: {kind: adamw, lr: 0.01}, clip_norm: 1.0}\n"
      "ttt: {steps: 2, batch_size: 8, lr: 0.003, query_size: 20}\n"
      "metrics: [accuracy, nll, ece]\n" +
      more);
}

ExperimentSpec language(const Workspace& space, const std::string& model) {
  return spec_from_yaml("dataset: {kind: text, path: " + text_file(space) +
                        ", sequence_length: 24}\n"
                        "folds: {kind: kfold, k: 3}\n"
                        "model: " +
                        model +
                        "\n"
                        "train: {steps: 12, batch_size: 8, optimizer: {kind: adamw, lr: 0.01}, clip_norm: 1.0}\n"
                        "ttt: {steps: 2, batch_size: 8, lr: 0.001, query_size: 20}\n"
                        "metrics: [accuracy, nll, bits_per_byte]\n"
                        "diagnostics: {inner_loss: 1}\n");
}

struct Kind {
  const char* name;
  const char* model;
  bool tokens;
};

void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

class SequenceArrays : public ::testing::TestWithParam<Kind> {
 protected:
  ExperimentSpec spec() const {
    return GetParam().tokens ? language(space_, GetParam().model) : sequences(GetParam().model);
  }
  Workspace space_;
};

TEST_P(SequenceArrays, LearnAndAdaptWithTheSameBitsInAnyArray) {
  std::vector<Case> cases;
  for (int k = 0; k < 6; ++k) {
    ExperimentSpec one = spec();
    one.train.optimizer.lr = 0.004 * (1 + k % 3);
    if (one.model.ttt.base_lr) *one.model.ttt.base_lr *= 1 + 0.5 * (k % 2);
    cases.push_back({one, 0, k % 3, {}, {}});
  }
  const Recorder six = run(space_, Stage::fit, cases, "six");
  const Recorder one = run(space_, Stage::fit, {cases[4]}, "one");
  const auto& fit = six.members.at(4);
  ASSERT_EQ(fit.outcome.status, TrialStatus::done) << fit.outcome.reason;
  EXPECT_LT(fit.train_steps.back().loss, fit.train_steps.front().loss);
  expect_equal(fit, one.members.at(0));

  for (std::size_t k = 0; k < cases.size(); ++k) cases[k].fit = newest(six, static_cast<std::int64_t>(k));
  const Recorder adapted = run(space_, Stage::adapt, cases, "adapt-six");
  const Recorder alone = run(space_, Stage::adapt, {cases[4]}, "adapt-one");
  const auto& trial = adapted.members.at(4);
  ASSERT_EQ(trial.outcome.status, TrialStatus::done) << trial.outcome.reason;
  ASSERT_EQ(trial.ttt_steps.size(), 2U);
  EXPECT_TRUE(std::isfinite(trial.ttt_steps.back().entropy));
  EXPECT_GT(trial.ttt_steps.back().grad_norm, 0);
  expect_equal(trial, alone.members.at(0));
  EXPECT_TRUE(same_bits(trial.inner_losses, alone.members.at(0).inner_losses));
  EXPECT_TRUE(same_bits(trial.position_losses, alone.members.at(0).position_losses));
  EXPECT_EQ(trial.position_losses.empty(), !GetParam().tokens);
}

TEST_P(SequenceArrays, ResumeToTheSameBits) {
  const std::vector<Case> cases = {{spec(), 0, 0, {}, {}}, {spec(), 0, 1, {}, {}}};
  const Recorder whole = run(space_, Stage::fit, cases, "whole");
  const Recorder first = run(space_, Stage::fit, cases, "first", 5);
  ASSERT_EQ(first.members.at(1).outcome.status, TrialStatus::stopped);
  std::vector<Case> rest = cases;
  for (std::size_t k = 0; k < rest.size(); ++k) rest[k].resume = newest(first, static_cast<std::int64_t>(k));
  const Recorder second = run(space_, Stage::fit, rest, "second");
  for (const std::size_t k : {0, 1})
    expect_equal(whole.members.at(k), joined(first.members.at(k), second.members.at(k)));
}

INSTANTIATE_TEST_SUITE_P(
    Models, SequenceArrays,
    ::testing::Values(
        Kind{"gru", "{kind: gru, units: 12, layers: 2, dropout: 0.1}", false},
        Kind{"lstm", "{kind: lstm, units: 12, layers: 1, bidirectional: true}", false},
        Kind{"ttt_rnn", "{kind: ttt_rnn, units: 12, layers: 2, dropout: 0.1}", false},
        Kind{"ttt_rnn_per_sequence",
             "{kind: ttt_rnn, units: 8, layers: 1, ttt: {inner: per_sequence, inner_iterations: 2}}", false},
        Kind{"ttt_lm", "{kind: ttt_lm, width: 16, heads: 2, layers: 2, ttt: {kind: linear, mini_batch_size: 4}}", true},
        Kind{"transformer_lm",
             "{kind: transformer_lm, width: 16, heads: 2, layers: 2, dropout: 0.1, ttt: {layers: last:1, "
             "mini_batch_size: 4}}",
             true}),
    [](const auto& kind) { return std::string(kind.param.name); });

// Steps without a label count nowhere, and labels of the held-out fold reach the metrics alone.
TEST(SequenceLabels, OfSequencesAndOfStepsAreBothLearned) {
  const Workspace space;
  const ExperimentSpec spec = sequences("{kind: gru, units: 24, layers: 1}", "");
  ExperimentSpec longer = spec;
  longer.train.epochs = 25;
  const Fits fits = fit(space, longer, 1, "a");
  EXPECT_GT(fits.recorder.metric(0, Phase::train, "accuracy"), 0.5);  // four classes
}

TEST(TrainedParameters, OfNoneAreLeftAsTheyBegin) {
  const Workspace space;
  ExperimentSpec spec = sequences("{kind: gru, units: 8, layers: 1}");
  spec.train.parameters = {"none"};
  const Fits frozen = fit(space, spec, 1, "frozen");
  EXPECT_EQ(frozen.recorder.members.at(0).outcome.status, TrialStatus::done);
  EXPECT_TRUE(frozen.recorder.members.at(0).train_steps.empty());
  spec.train.parameters = {"readout.*"};
  const Fits head = fit(space, spec, 1, "head");
  EXPECT_GT(head.recorder.members.at(0).train_steps.size(), 5U);
}

}  // namespace
}  // namespace tenfold::testing

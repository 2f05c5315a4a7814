// Arrays as the engine computes them: the same results whatever the array, from a checkpoint or in one go, with
// nothing of the held-out labels in them.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "datasets/safetensors.h"
#include "experiments/metric.h"
#include "tests/trainer/array_harness.h"

namespace tenfold::testing {
namespace {

TEST(FitArray, LearnsAndReportsEveryUpdate) {
  const Workspace space;
  const ExperimentSpec spec = small_spec();
  const Fits fits = fit(space, spec, 1, "a");
  const auto& member = fits.recorder.members.at(0);
  ASSERT_EQ(member.train_steps.size(), 3U * 11U);  // 172 or 173 samples, batches of 16
  EXPECT_EQ(member.train_steps.front().step, 1);
  EXPECT_EQ(member.train_steps.back().epoch, 2);
  EXPECT_LT(member.train_steps.back().loss, 0.7 * member.train_steps.front().loss);
  EXPECT_GT(fits.recorder.metric(0, Phase::train, "accuracy"), 0.8);
  EXPECT_EQ(member.outcome.status, TrialStatus::done);
}

TEST(FitArray, RecordsTheRateThatItApplies) {
  const Workspace space;
  ExperimentSpec spec = small_spec();
  spec.train.schedule.kind = "cosine";
  spec.train.schedule.warmup_steps = 4;
  const Fits fits = fit(space, spec, 1, "a");
  const auto& rows = fits.recorder.members.at(0).train_steps;
  EXPECT_FLOAT_EQ(static_cast<float>(rows[0].lr), 0.0025f);
  EXPECT_FLOAT_EQ(static_cast<float>(rows[3].lr), 0.01f);
  EXPECT_GT(rows[10].lr, rows[20].lr);
}

class ArraySize : public ::testing::TestWithParam<const char*> {};

// 1, 4 and 60 members: the same bits.
TEST_P(ArraySize, DoesNotChangeABit) {
  const Workspace space;
  ExperimentSpec spec = small_spec();
  const std::string kind = GetParam();
  if (kind == "cnn") {
    spec.dataset.kind = "digits";
    spec.model.kind = "cnn";
    spec.model.channels = {4};
    spec.model.hidden = {16};
    spec.deterministic = true;
    spec.train.epochs = 1;
    spec.train.steps = 5;
    spec.ttt.steps = 2;
  } else if (kind != "mlp") {
    spec.model.norm = kind;
  }
  std::vector<Case> cases;
  for (int k = 0; k < 60; ++k) {
    ExperimentSpec one = spec;
    one.train.optimizer.lr = 0.001 * (1 + k % 7);
    cases.push_back({one, 0, k % 4, {}, {}});
  }
  const auto run = [&](Stage stage, std::vector<Case> some, const std::string& name) {
    Recorder recorder;
    engine().run(space.job(stage, some, name), recorder);
    return recorder;
  };
  const Recorder sixty = run(Stage::fit, cases, "sixty");
  const Recorder four = run(Stage::fit, {cases.begin() + 20, cases.begin() + 24}, "four");
  const Recorder one = run(Stage::fit, {cases[23]}, "one");
  expect_equal(sixty.members.at(23), four.members.at(3));
  expect_equal(sixty.members.at(23), one.members.at(0));

  for (std::size_t k = 0; k < cases.size(); ++k) {
    cases[k].fit = newest(sixty, static_cast<std::int64_t>(k));
    cases[k].spec.ttt.lr = 0.001 * static_cast<double>(1 + k % 5);
  }
  const Recorder adapted = run(Stage::adapt, cases, "adapt-sixty");
  const Recorder adapted_four = run(Stage::adapt, {cases.begin() + 20, cases.begin() + 24}, "adapt-four");
  const Recorder adapted_one = run(Stage::adapt, {cases[23]}, "adapt-one");
  expect_equal(adapted.members.at(23), adapted_four.members.at(3));
  expect_equal(adapted.members.at(23), adapted_one.members.at(0));
}

INSTANTIATE_TEST_SUITE_P(Models, ArraySize, ::testing::Values("mlp", "batch", "none", "cnn"));

TEST(FitArray, ResumesToTheSameBits) {
  const Workspace space;
  const ExperimentSpec spec = small_spec();
  const Fits whole = fit(space, spec, 2, "whole");
  for (const int looks : {1, 7, 11, 30}) {
    Recorder first;
    first.drain_after = looks;
    engine().run(space.job(Stage::fit, {{spec, 0, 0, {}, {}}, {spec, 0, 1, {}, {}}}, "first"), first);
    ASSERT_EQ(first.members.at(1).outcome.status, TrialStatus::stopped);
    const CheckpointRef ref = newest(first, 1);
    EXPECT_GT(ref.step, 0);
    Recorder second;
    engine().run(space.job(Stage::fit, {{spec, 0, 1, ref, {}}}, "second"), second);
    ASSERT_EQ(static_cast<std::int64_t>(first.members.at(1).train_steps.size()), ref.step);
    expect_equal(whole.recorder.members.at(1), joined(first.members.at(1), second.members.at(0)));
  }
}

TEST(AdaptArray, ResumesToTheSameBits) {
  const Workspace space;
  const ExperimentSpec spec = small_spec();
  const Fits fits = fit(space, spec, 1, "fit");
  for (const std::string reset : {"fold", "batch"}) {
    Case one{spec, 0, 0, {}, fits.last[0]};
    one.spec.ttt.reset = reset;
    Recorder whole;
    engine().run(space.job(Stage::adapt, {one}, "whole"), whole);
    Recorder first, second;
    first.drain_after = 2;  // one look before the adaptation, at the evaluation
    engine().run(space.job(Stage::adapt, {one}, "first"), first);
    ASSERT_EQ(first.members.at(0).outcome.status, TrialStatus::stopped);
    one.resume = newest(first, 0);
    EXPECT_EQ(one.resume->step, 1);
    engine().run(space.job(Stage::adapt, {one}, "second"), second);
    expect_equal(whole.members.at(0), joined(first.members.at(0), second.members.at(0)));
  }
}

TEST(AdaptArray, APassMakesOneUpdateABatchAndRecordsItsRate) {
  const Workspace space;
  ExperimentSpec spec = small_spec();
  const Fits fits = fit(space, spec, 1, "fit");
  spec.ttt.query_size = 50;
  spec.ttt.steps = 3;
  spec.checkpoint.every_steps = 1;
  Recorder recorder;
  engine().run(space.job(Stage::adapt, {{spec, 0, 0, {}, fits.last[0]}}, "a"), recorder);
  const auto& rows = recorder.members.at(0).ttt_steps;
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_DOUBLE_EQ(rows[0].lr, 0.01);
  for (const TttStepRow& row : rows) {
    EXPECT_NEAR(row.total, row.entropy + 0.15 * row.diversity, 1e-6);
    EXPECT_GE(row.diversity, 0);
    EXPECT_LE(row.class_entropy, 1.0 + 1e-6);
  }
  EXPECT_LT(rows.back().entropy, rows.front().entropy);
  // 50 samples in batches of 16 are 4 updates a pass; a checkpoint holds the number applied after two passes.
  const SafetensorsFile file = SafetensorsFile::open(recorder.checkpoints.at(1).path);
  EXPECT_EQ(file.floats("applied")[0], 8);
}

// Steps may take long: the first one is looked behind before more are begun.
TEST(FitArray, TheClockForCheckpointsIsLookedAtAfterItsFirstStep) {
  const Workspace space;
  ExperimentSpec spec = small_spec();
  spec.checkpoint.every_s = 1e-9;
  const Fits fits = fit(space, spec, 1, "fit");
  EXPECT_EQ(fits.recorder.checkpoints.front().step, 1);
}

TEST(AdaptArray, LeavesWhatDoesNotAdaptAlone) {
  const Workspace space;
  ExperimentSpec spec = small_spec();
  const Fits fits = fit(space, spec, 1, "fit");
  spec.ttt.parameters = std::vector<std::string>{"norm"};
  spec.checkpoint.every_steps = 1;
  Recorder recorder;
  engine().run(space.job(Stage::adapt, {{spec, 0, 0, {}, fits.last[0]}}, "a"), recorder);
  const SafetensorsFile before = SafetensorsFile::open(fits.last[0].path);
  const SafetensorsFile after = SafetensorsFile::open(recorder.checkpoints.back().path);
  for (const auto& [name, tensor] : after.tensors())
    EXPECT_TRUE(!name.starts_with("parameter/") || name.find("norm") != std::string::npos) << name;
  const auto a = before.floats("parameter/layers.0.norm.weight"), b = after.floats("parameter/layers.0.norm.weight");
  EXPECT_FALSE(std::equal(a.begin(), a.end(), b.begin()));
}

TEST(AdaptArray, NeverSeesTheHeldOutLabels) {
  // The same samples with the held-out fold's labels exchanged: fold membership is given, so that it stays.
  const auto run = [](bool scrambled) {
    const Workspace space;
    const std::filesystem::path file = space.folder() / "data.csv";
    {
      std::ofstream out(file);
      out << "a,b,c,label,fold\n";
      for (int i = 0; i < 120; ++i) {
        const int fold = i % 3, label = (i / 3) % 3;
        const int told = scrambled && fold == 1 ? (label + 1) % 3 : label;
        out << label + 0.1 * (i % 7) << ',' << 1 - label + 0.2 * (i % 5) << ',' << i % 11 << ',' << told << ',' << fold
            << '\n';
      }
    }
    ExperimentSpec spec = spec_from_yaml("name: leak\ndataset: {kind: csv, path: " + file.string() +
                                         ", label_column: label, fold_column: fold}\nfolds: {kind: predefined}\n"
                                         "model: {kind: mlp, hidden: [8]}\ntrain: {epochs: 2, batch_size: 16}\n"
                                         "ttt: {steps: 3, batch_size: 16, lr: 0.01}\n");
    Recorder fit;
    engine().run(space.job(Stage::fit, {{spec, 0, 1, {}, {}}}, "fit"), fit);
    Recorder adapt;
    engine().run(space.job(Stage::adapt, {{spec, 0, 1, {}, newest(fit, 0)}}, "adapt"), adapt);
    Recorder::Member both = adapt.members.at(0);
    both.train_steps = fit.members.at(0).train_steps;
    return both;
  };
  const Recorder::Member told = run(false), scrambled = run(true);
  ASSERT_FALSE(told.ttt_steps.empty());
  EXPECT_TRUE(same_bits(without_times(told.train_steps), without_times(scrambled.train_steps)));
  EXPECT_TRUE(same_bits(without_times(told.ttt_steps), without_times(scrambled.ttt_steps)));
  EXPECT_FALSE(same_bits(told.evaluations, scrambled.evaluations));  // metrics do read them
}

TEST(AdaptArray, KeepsANanToItsMember) {
  const Workspace space;
  const ExperimentSpec spec = small_spec();
  const Fits fits = fit(space, spec, 1, "fit");
  Case good{spec, 0, 0, {}, fits.last[0]};
  Case bad = good;
  bad.spec.ttt.lr = 1e38;
  bad.spec.ttt.steps = 6;
  good.spec.ttt.steps = 6;
  Recorder alone, together;
  engine().run(space.job(Stage::adapt, {good, good}, "alone"), alone);
  engine().run(space.job(Stage::adapt, {good, bad, good}, "together"), together);
  EXPECT_EQ(together.members.at(1).outcome.status, TrialStatus::failed);
  EXPECT_FALSE(together.members.at(1).outcome.retry);
  EXPECT_NE(together.members.at(1).outcome.reason.find("not finite"), std::string::npos);
  EXPECT_EQ(together.members.at(0).outcome.status, TrialStatus::done);
  expect_equal(alone.members.at(0), together.members.at(0));
  expect_equal(alone.members.at(1), together.members.at(2));
}

TEST(AdaptArray, SourceChangesNothingAndBnOnlyStatistics) {
  const Workspace space;
  ExperimentSpec spec = small_spec();
  spec.model.norm = "batch";
  const Fits fits = fit(space, spec, 1, "fit");
  const auto adapt = [&](const std::string& method) {
    ExperimentSpec one = spec;
    one.ttt = TttSpec{};
    one.ttt.method = method;
    resolve_method_defaults(one);
    Recorder recorder;
    engine().run(space.job(Stage::adapt, {{one, 0, 0, {}, fits.last[0]}}, method), recorder);
    EXPECT_EQ(recorder.members.at(0).outcome.status, TrialStatus::done) << method;
    return recorder;
  };
  const Recorder source = adapt("source");
  EXPECT_TRUE(source.members.at(0).ttt_steps.empty());
  EXPECT_EQ(source.metric(0, Phase::before, "nll"), source.metric(0, Phase::after, "nll"));
  const Recorder bn = adapt("bn");
  EXPECT_EQ(bn.metric(0, Phase::before, "nll"), source.metric(0, Phase::before, "nll"));
  EXPECT_NE(bn.metric(0, Phase::before, "nll"), bn.metric(0, Phase::after, "nll"));
  for (const std::string method : {"tent", "shot_im"}) {
    const Recorder recorder = adapt(method);
    EXPECT_FALSE(recorder.members.at(0).ttt_steps.empty()) << method;
    EXPECT_TRUE(std::isfinite(recorder.metric(0, Phase::after, "nll"))) << method;
    EXPECT_TRUE(std::isfinite(recorder.metric(0, Phase::online, "accuracy"))) << method;
  }
}

TEST(FitArray, StopsEarlyAtItsBestParameters) {
  const Workspace space;
  ExperimentSpec spec = small_spec();
  spec.folds.validation = 0.2;
  spec.train.epochs = 60;
  spec.train.optimizer.lr = 0.05;
  spec.train.early_stopping.patience = 3;
  const Fits fits = fit(space, spec, 1, "a");
  const auto& member = fits.recorder.members.at(0);
  std::vector<double> nll;
  for (const EvaluationRow& row : member.evaluations)
    if (row.phase == Phase::validation && row.metric == metric_index("nll")) nll.push_back(row.value);
  ASSERT_LT(nll.size(), 60U);
  const auto best = std::min_element(nll.begin(), nll.end());
  EXPECT_EQ(nll.end() - best, 4);  // three without gain after it
  EXPECT_EQ(member.train_steps.back().epoch + 1, static_cast<std::int64_t>(nll.size()));
}

}  // namespace
}  // namespace tenfold::testing

// Interrupted arrays end with the same bits as others, under every schedule and with whatever state they carry.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "experiments/error.h"
#include "experiments/metric.h"
#include "tests/trainer/array_harness.h"

namespace tenfold::testing {
namespace {

void expect_resumes(const ExperimentSpec& spec, std::initializer_list<int> drains) {
  const Workspace space;
  const Recorder whole = run(space, Stage::fit, {{spec, 0, 0, {}, {}}, {spec, 0, 1, {}, {}}}, "whole");
  for (const int drain_after : drains) {
    const Recorder first = run(space, Stage::fit, {{spec, 0, 0, {}, {}}, {spec, 0, 1, {}, {}}}, "first", drain_after);
    ASSERT_EQ(first.members.at(1).outcome.status, TrialStatus::stopped) << drain_after;
    EXPECT_EQ(first.members.at(1).outcome.steps, newest(first, 1).step);
    const Recorder rest = run(space, Stage::fit, {{spec, 0, 1, newest(first, 1), {}}}, "rest");
    expect_equal(whole.members.at(1), joined(first.members.at(1), rest.members.at(0)));
    EXPECT_FALSE(rest.members.at(0).train_steps.empty());
  }
}

TEST(ResumedFit, CosineWithWarmUpSmoothingAndStepsInsteadOfEpochs) {
  ExperimentSpec spec = small_spec();
  spec.train.steps = 29;  // 11 an epoch: the last is unfinished
  spec.train.schedule.kind = "cosine";
  spec.train.schedule.warmup_steps = 5;
  spec.train.label_smoothing = 0.1;
  spec.train.optimizer.kind = "sgd";
  spec.train.optimizer.nesterov = true;
  spec.train.clip_norm = 0.5;
  expect_resumes(spec, {3, 12, 27});
}

TEST(ResumedFit, PlateauWithBatchNormAndEarlyStopping) {
  ExperimentSpec spec = small_spec();
  spec.folds.validation = 0.2;
  spec.model.norm = "batch";
  spec.train.epochs = 8;
  spec.train.eval_every_steps = 4;
  spec.train.optimizer.lr = 0.03;
  spec.train.schedule.kind = "plateau";
  spec.train.schedule.patience = 0;
  spec.train.schedule.factor = 0.5;
  spec.train.early_stopping.patience = 6;
  expect_resumes(spec, {2, 11, 23});
  const Workspace space;
  const Fits fits = fit(space, spec, 1, "a");
  const auto& rows = fits.recorder.members.at(0).train_steps;
  EXPECT_LT(rows.back().lr, rows.front().lr);
}

TEST(ResumedTrial, PlateauAdaptiveWeightAndGuards) {
  const Workspace space;
  ExperimentSpec spec = small_spec(
      "ttt: {steps: 9, batch_size: 16, lr: 0.02, schedule: {kind: plateau, patience: 0, factor: 0.5, threshold: 0.5},\n"
      "  adaptive_weight: {enabled: true, target: 0.999}, stop: {patience: 5, after: 3, min_delta: 0.5}}\n");
  const Fits fits = fit(space, spec, 1, "fit");
  Case one{spec, 0, 0, {}, fits.last[0]}, other = one;
  other.spec.ttt.stop.patience = 0;
  const Recorder whole = run(space, Stage::adapt, {one, other}, "whole");
  ASSERT_LT(whole.members.at(0).ttt_steps.size(), 9U);
  ASSERT_EQ(whole.members.at(1).ttt_steps.size(), 9U);
  EXPECT_LT(whole.members.at(1).ttt_steps.back().lr, 0.02);
  for (const int drain_after : {1, 3, 5}) {
    const Recorder first = run(space, Stage::adapt, {one, other}, "first", drain_after);
    Case rest_one = one, rest_other = other;
    rest_one.resume = newest(first, 0);
    rest_other.resume = newest(first, 1);
    const Recorder rest = run(space, Stage::adapt, {rest_other, rest_one}, "rest");
    expect_equal(whole.members.at(0), joined(first.members.at(0), rest.members.at(1)));
    expect_equal(whole.members.at(1), joined(first.members.at(1), rest.members.at(0)));
  }
}

// A small language model with a gated TTT layer.
ExperimentSpec gated(const Workspace& space) {
  std::ofstream text(space.folder() / "text.txt");
  for (int i = 0; i < 60; ++i) text << "line " << i * 7919 % 1000 << " of a small text about cats and mats\n";
  return spec_from_yaml("dataset: {kind: text, path: " + (space.folder() / "text.txt").string() +
                        ", sequence_length: 24}\n"
                        "folds: {kind: kfold, k: 3, validation: 0.3}\n"
                        "model: {kind: transformer_lm, layers: 2, width: 16, heads: 2,\n"
                        "  ttt: {layers: last:1, mini_batch_size: 8, gate_init: 0.1}}\n"
                        "train: {steps: 4, batch_size: 8, eval_every_steps: 2, optimizer: {kind: adamw, lr: 0.01}}\n"
                        "ttt: {steps: 2, batch_size: 8, lr: 0.01}\nmetrics: [nll]\n");
}

TEST(ResumedFit, GatesAreReportedOnceWhereverADrainCame) {
  const Workspace space;
  const Case one{gated(space), 0, 0, {}, {}};
  EXPECT_EQ(run(space, Stage::fit, {one}, "gates").members.at(0).gates.size(), 2u);
  expect_resumes_anywhere(space, Stage::fit, {one});
}

// Found by reading: gates of an evaluation before the checkpoint were reported again where the fit was put back to it.
TEST(ResumedFit, GatesAreReportedOnceWhereItIsPutBackToItsCheckpoint) {
  const Workspace space;
  ExperimentSpec spec = gated(space);
  spec.on_nonfinite.policy = "stop";
  spec.train.eval_every_steps = 1;
  spec.train.optimizer.kind = "sgd";
  bool put_back = false;
  for (const double lr : {1e1, 1e3, 1e5}) {
    spec.train.optimizer.lr = lr;
    const MemberOutcome outcome = run(space, Stage::fit, {{spec, 0, 0, {}, {}}}, "diverging").members.at(0).outcome;
    if (!outcome.nonfinite) continue;
    put_back |= outcome.steps > 0;
    expect_resumes_anywhere(space, Stage::fit, {{spec, 0, 0, {}, {}}});
  }
  EXPECT_TRUE(put_back);
}

// Found by a drain at random: what has made no step has nothing to keep.
TEST(ResumedFit, WithoutAStepThereIsNoCheckpoint) {
  const Workspace space;
  const Case one{small_spec(), 0, 0, {}, {}};
  const Recorder at_once = run(space, Stage::fit, {one}, "at-once", 0);
  EXPECT_EQ(at_once.members.at(0).outcome.status, TrialStatus::stopped);
  EXPECT_TRUE(at_once.checkpoints.empty());
  const Recorder first = run(space, Stage::fit, {one}, "first", 3);
  const Recorder again = run(space, Stage::fit, {{one.spec, 0, 0, newest(first, 0), {}}}, "again", 0);
  EXPECT_EQ(again.members.at(0).outcome.status, TrialStatus::stopped);
  EXPECT_TRUE(again.checkpoints.empty());
}

TEST(ResumedFit, StopsEarlyForTheSameReasonWhereverADrainCame) {
  const Workspace space;
  ExperimentSpec spec = small_spec();
  spec.folds.validation = 0.2;
  spec.train.eval_every_steps = 2;
  spec.train.optimizer.lr = 0.3;
  spec.train.early_stopping.patience = 2;
  expect_resumes_anywhere(space, Stage::fit, {{spec, 0, 0, {}, {}}});
}

TEST(ResumedTrial, StopsForTheSameReasonWhereverADrainCame) {
  const Workspace space;
  ExperimentSpec spec =
      small_spec("ttt: {steps: 9, batch_size: 16, lr: 0.02, stop: {patience: 2, after: 1, min_delta: 0.5}}\n");
  const Fits fits = fit(space, spec, 1, "fit");
  const Case one{spec, 0, 0, {}, fits.last[0]};
  EXPECT_NE(run(space, Stage::adapt, {one}, "stopped").members.at(0).outcome.reason, "");
  expect_resumes_anywhere(space, Stage::adapt, {one});
}

// Found on a run whose final evaluation took longer than a drain may: what it was of had to be computed again.
TEST(ResumedFit, AFinalEvaluationIsGivenUpForADrain) {
  const Workspace space;
  ExperimentSpec spec = small_spec();
  spec.folds.validation = 0.2;
  const Recorder whole = run(space, Stage::fit, {{spec, 0, 0, {}, {}}}, "whole");
  const std::size_t steps = whole.members.at(0).train_steps.size();
  int given_up = 0;
  for (int looks = static_cast<int>(steps);; ++looks) {
    const Recorder first = run(space, Stage::fit, {{spec, 0, 0, {}, {}}}, "first", looks);
    if (first.members.at(0).outcome.status == TrialStatus::done) break;
    if (first.members.at(0).train_steps.size() < steps) continue;
    ++given_up;
    EXPECT_EQ(newest(first, 0).step, static_cast<std::int64_t>(steps));
    const Recorder rest = run(space, Stage::fit, {{spec, 0, 0, newest(first, 0), {}}}, "rest");
    EXPECT_TRUE(rest.members.at(0).train_steps.empty());
    expect_equal(whole.members.at(0), joined(first.members.at(0), rest.members.at(0)));
  }
  EXPECT_GT(given_up, 0);
}

TEST(ResumedTrial, EvaluationsBeforeAndAfterAreGivenUpForADrain) {
  const Workspace space;
  const ExperimentSpec spec = small_spec();
  const Fits fits = fit(space, spec, 1, "fit");
  Case one{spec, 0, 0, {}, fits.last[0]};
  const Recorder whole = run(space, Stage::adapt, {one}, "whole");
  const Recorder before = run(space, Stage::adapt, {one}, "before", 0);
  EXPECT_EQ(before.members.at(0).outcome.status, TrialStatus::stopped);
  EXPECT_TRUE(before.members.at(0).evaluations.empty() && before.checkpoints.empty());
  const Recorder after = run(space, Stage::adapt, {one}, "after", 4);
  ASSERT_EQ(after.members.at(0).outcome.status, TrialStatus::stopped);
  ASSERT_EQ(after.members.at(0).ttt_steps.size(), 4u);
  Case rest_one = one;
  rest_one.resume = newest(after, 0);
  EXPECT_EQ(rest_one.resume->step, 3);
  const Recorder rest = run(space, Stage::adapt, {rest_one}, "rest");
  EXPECT_TRUE(rest.members.at(0).ttt_steps.empty());
  expect_equal(whole.members.at(0), joined(after.members.at(0), rest.members.at(0)));
}

TEST(ResumedTrial, RefusesTheCheckpointOfAnotherConfiguration) {
  const Workspace space;
  const ExperimentSpec spec = small_spec();
  const Fits fits = fit(space, spec, 1, "fit");
  const auto refused = [&](Case one, const std::string& part) {
    try {
      run(space, Stage::adapt, {one}, "refused");
      ADD_FAILURE() << part;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::data);
      EXPECT_NE(std::string(error.what()).find(fits.last[0].path), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  };
  Case wider{spec, 0, 0, {}, fits.last[0]}, deeper = wider, out_of_range = wider;
  wider.spec.model.hidden = {13};
  refused(wider, "another shape");
  deeper.spec.model.hidden = {12, 12};
  refused(deeper, "no tensor parameter/layers.1.linear.weight");
  out_of_range.fit->array_index = 1;
  refused(out_of_range, "member 1");
}

TEST(LabelSmoothing, KeepsProbabilitiesFromTheExtremesAndOthersBits) {
  const Workspace space;
  ExperimentSpec spec = small_spec();
  spec.train.epochs = 6;
  ExperimentSpec smooth = spec;
  smooth.train.label_smoothing = 0.3;
  const Recorder both = run(space, Stage::fit, {{spec, 0, 0, {}, {}}, {smooth, 0, 0, {}, {}}}, "both");
  const Recorder alone = run(space, Stage::fit, {{spec, 0, 0, {}, {}}}, "alone");
  expect_equal(both.members.at(0), alone.members.at(0));
  EXPECT_GT(both.metric(1, Phase::train, "accuracy"), 0.8);
  EXPECT_GT(both.metric(1, Phase::train, "nll"), both.metric(0, Phase::train, "nll") + 0.05);
}

TEST(Cnn, LearnsWithoutDeterministicConvolutions) {
  const Workspace space;
  ExperimentSpec spec = small_spec("ttt: {steps: 2, batch_size: 32, lr: 0.001, query_size: 96}\n");
  spec.dataset = DatasetSpec{};
  spec.dataset.kind = "digits";
  spec.model.kind = "cnn";
  spec.model.channels = {4, 8};
  spec.model.hidden = {16};
  spec.train.steps = 30;
  spec.train.batch_size = 32;
  for (const std::string norm : {"layer", "batch"}) {
    spec.model.norm = norm;
    const Fits fits = fit(space, spec, 2, "fit-" + norm);
    for (const auto& [k, member] : fits.recorder.members)
      EXPECT_LT(member.train_steps.back().loss, 0.8 * member.train_steps.front().loss) << norm;
    ExperimentSpec exact = spec;
    exact.deterministic = true;
    const Recorder close = run(space, Stage::fit, {{exact, 0, 0, {}, {}}}, "exact-" + norm);
    EXPECT_NEAR(close.members.at(0).train_steps[0].loss, fits.recorder.members.at(0).train_steps[0].loss, 1e-5);
    EXPECT_NEAR(close.members.at(0).train_steps[0].grad_norm, fits.recorder.members.at(0).train_steps[0].grad_norm,
                1e-4);
    const Recorder adapted = run(space, Stage::adapt, {{spec, 0, 0, {}, fits.last[0]}}, "adapt-" + norm);
    EXPECT_EQ(adapted.members.at(0).ttt_steps.size(), 2U);
    EXPECT_TRUE(std::isfinite(adapted.metric(0, Phase::after, "nll")));
  }
}

}  // namespace
}  // namespace tenfold::testing

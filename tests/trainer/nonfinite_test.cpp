// Losses, gradients and predictions that are not finite: what a member keeps, and that nobody beside it notices.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <tuple>

#include "experiments/metric.h"
#include "tests/trainer/array_harness.h"
#include "trainer/checkpoint.h"

namespace tenfold::testing {
namespace {

void expect_all_finite_and_no_row_twice(const Recorder::Member& member) {
  std::set<std::tuple<Phase, std::int32_t, std::int64_t>> seen;
  for (const EvaluationRow& row : member.evaluations) {
    EXPECT_TRUE(seen.insert({row.phase, row.metric, row.step}).second)
        << to_string(row.phase) << " at step " << row.step;
    EXPECT_TRUE(std::isfinite(row.value)) << metrics()[static_cast<std::size_t>(row.metric)].name;
  }
  for (const TrainStepRow& row : member.train_steps) EXPECT_TRUE(std::isfinite(row.loss + row.grad_norm)) << row.step;
  for (const TttStepRow& row : member.ttt_steps) EXPECT_TRUE(std::isfinite(row.total + row.grad_norm)) << row.step;
}

// Steps of plain gradient descent without norms, each larger than the one before, until float32 holds them no more.
ExperimentSpec exploding(double lr = 3) {
  ExperimentSpec spec = small_spec();
  spec.on_nonfinite.policy = "stop";
  spec.model.norm = "none";
  spec.model.hidden = {12, 12, 12};
  spec.train.optimizer.kind = "sgd";
  spec.train.optimizer.lr = lr;
  spec.checkpoint.every_s = 1e9;
  return spec;
}

// The smallest rate of a few that makes the fit end by itself, some updates after it began.
struct Exploded {
  ExperimentSpec spec;
  Recorder recorder;
};
Exploded explode(const Workspace& space, double validation = 0) {
  for (const double lr : {3.0, 30.0, 300.0, 3000.0}) {
    Exploded result{exploding(lr), {}};
    result.spec.folds.validation = validation;
    result.recorder = run(space, Stage::fit, {{result.spec, 0, 0, {}, {}}}, "exploded");
    if (result.recorder.members.at(0).outcome.nonfinite) return result;
  }
  ADD_FAILURE() << "nothing exploded";
  return {};
}

// Bit for bit; the files may tell of different steps of their arrays.
void expect_same_tensors(const CheckpointRef& a, const CheckpointRef& b) {
  CheckpointReader reader;
  MemberTensors one = reader.read(a), other = reader.read(b);
  for (MemberTensors* member : {&one, &other}) member->tensors.erase("end");  // why it stopped
  ASSERT_EQ(one.tensors.size(), other.tensors.size());
  for (const auto& [name, tensor] : one.tensors) {
    ASSERT_TRUE(other.has(name)) << name;
    EXPECT_TRUE(at::equal(tensor, other.tensors.at(name))) << name;
  }
}

TEST(FitsThatAreNotFinite, StopWithTheParametersOfTheLastFiniteLoss) {
  const Workspace space;
  const Exploded exploded = explode(space);
  const Recorder::Member& member = exploded.recorder.members.at(0);
  ASSERT_EQ(member.outcome.status, TrialStatus::done) << member.outcome.reason;
  expect_all_finite_and_no_row_twice(member);
  const std::int64_t kept = member.outcome.steps;
  ASSERT_GT(kept, 0);
  EXPECT_NE(member.outcome.reason.find("kept is the model after update " + std::to_string(kept)), std::string::npos)
      << member.outcome.reason;
  // It is the model of a fit that was told to make so many updates.
  ExperimentSpec shorter = exploded.spec;
  shorter.train.steps = static_cast<int>(kept);
  const Recorder told = run(space, Stage::fit, {{shorter, 0, 0, {}, {}}}, "told");
  ASSERT_EQ(told.members.at(0).outcome.status, TrialStatus::done);
  expect_same_tensors(newest(told, 0), newest(exploded.recorder, 0));
  EXPECT_EQ(told.metric(0, Phase::train, "nll"), exploded.recorder.metric(0, Phase::train, "nll"));
}

TEST(FitsThatAreNotFinite, StopAloneAmongOthersAndAfterAResume) {
  const Workspace space;
  const Exploded exploded = explode(space);
  ExperimentSpec calm = exploded.spec;
  calm.train.optimizer.lr = 0.01;
  const std::vector<Case> cases = {{calm, 0, 0, {}, {}}, {exploded.spec, 0, 0, {}, {}}, {calm, 0, 1, {}, {}}};
  const Recorder together = run(space, Stage::fit, cases, "together");
  const Recorder without = run(space, Stage::fit, {cases[0], cases[2]}, "without");
  expect_equal(together.members.at(0), without.members.at(0));
  expect_equal(together.members.at(2), without.members.at(1));
  const Recorder::Member& alone = exploded.recorder.members.at(0);
  expect_equal(together.members.at(1), alone);
  const Recorder first = run(space, Stage::fit, {cases[1]}, "first", /*drain_after=*/2);
  ASSERT_EQ(first.members.at(0).outcome.status, TrialStatus::stopped);
  const Recorder second = run(space, Stage::fit, {{exploded.spec, 0, 0, newest(first, 0), {}}}, "second");
  expect_equal(joined(first.members.at(0), second.members.at(0)), alone);
  EXPECT_EQ(second.members.at(0).outcome.reason, alone.outcome.reason);
  expect_same_tensors(newest(second, 0), newest(exploded.recorder, 0));
}

TEST(FitsThatAreNotFinite, EndTheSameWhereverADrainCame) {
  const Workspace space;
  const ExperimentSpec exploding = explode(space).spec;
  ExperimentSpec calm = exploding;
  calm.train.optimizer.lr = 0.01;
  for (const char* policy : {"stop", "fail"}) {
    SCOPED_TRACE(policy);
    std::vector<Case> cases = {{exploding, 0, 0, {}, {}}, {calm, 0, 1, {}, {}}};
    for (Case& one : cases) one.spec.on_nonfinite.policy = policy;
    expect_resumes_anywhere(space, Stage::fit, {cases[0]});
    expect_resumes_anywhere(space, Stage::fit, cases);
    // The last update spoils the predictions alone: the others are measured already when a drain comes.
    for (Case& one : cases) one.spec.train.steps = 1;
    cases[0].spec.train.optimizer.lr = 1e38;
    expect_resumes_anywhere(space, Stage::fit, cases);
  }
}

// A kill between a fit's last checkpoint and its outcome.
TEST(FitsThatAreNotFinite, SayWhyFromTheirLastCheckpointAlone) {
  const Workspace space;
  const Exploded exploded = explode(space);
  const Recorder rest = run(space, Stage::fit, {{exploded.spec, 0, 0, newest(exploded.recorder, 0), {}}}, "rest");
  EXPECT_TRUE(rest.members.at(0).evaluations.empty());
  EXPECT_TRUE(rest.members.at(0).outcome.nonfinite);
  EXPECT_EQ(rest.members.at(0).outcome.reason, exploded.recorder.members.at(0).outcome.reason);
}

TEST(FitsThatAreNotFinite, EndWithTheirBestWhereTheyStopEarly) {
  const Workspace space;
  Exploded exploded = explode(space, 0.2);
  exploded.spec.train.eval_every_steps = 1;
  exploded.spec.train.early_stopping.patience = 1000;
  const Recorder recorder = run(space, Stage::fit, {{exploded.spec, 0, 0, {}, {}}}, "a");
  const Recorder::Member& member = recorder.members.at(0);
  ASSERT_EQ(member.outcome.status, TrialStatus::done) << member.outcome.reason;
  EXPECT_NE(member.outcome.reason.find("best on the validation part"), std::string::npos) << member.outcome.reason;
  expect_all_finite_and_no_row_twice(member);
}

TEST(FitsThatAreNotFinite, FailWhereTheyAreNotToBeKeptOrNothingWasFinite) {
  const Workspace space;
  ExperimentSpec failing = explode(space).spec;
  failing.on_nonfinite.policy = "fail";
  const Recorder failed = run(space, Stage::fit, {{failing, 0, 0, {}, {}}}, "failed");
  EXPECT_EQ(failed.members.at(0).outcome.status, TrialStatus::failed);
  EXPECT_TRUE(failed.members.at(0).outcome.nonfinite);
  EXPECT_FALSE(failed.members.at(0).outcome.retry);
}

TEST(LoweredRates, AreWhatTheExperimentWouldHaveGiven) {
  const Workspace space;
  const ExperimentSpec spec = small_spec();
  ExperimentSpec lower = spec;
  lower.train.optimizer.lr *= 0.25;
  lower.ttt.lr = *spec.ttt.lr * 0.25;
  const Recorder scaled = run(space, Stage::fit, {{spec, 0, 0, {}, {}, 0.25}, {spec, 0, 1, {}, {}}}, "scaled");
  const Recorder given = run(space, Stage::fit, {{lower, 0, 0, {}, {}}, {spec, 0, 1, {}, {}}}, "given");
  expect_equal(scaled.members.at(0), given.members.at(0));
  expect_equal(scaled.members.at(1), given.members.at(1));
  const CheckpointRef fit = newest(given, 1);
  const Recorder adapted = run(space, Stage::adapt, {{spec, 0, 1, {}, fit, 0.25}}, "adapted");
  expect_equal(adapted.members.at(0), run(space, Stage::adapt, {{lower, 0, 1, {}, fit}}, "lower").members.at(0));
}

TEST(AdaptationsThatAreNotFinite, StopAsTheLastGoodPassLeftThem) {
  const Workspace space;
  for (const char* reset : {"fold", "batch"}) {
    const ExperimentSpec spec = small_spec(
        std::string("ttt: {steps: 6, batch_size: 16, lr: 0.01, eval_every_steps: 1, reset: ") + reset + "}\n");
    const Fits fits = fit(space, spec, 2, std::string("fit-") + reset);
    const Case good{spec, 0, 0, {}, fits.last[0]};
    Case bad = good;
    bad.spec.ttt.lr = 1e38;
    bad.spec.on_nonfinite.policy = "stop";
    Case calm = good;
    calm.spec.on_nonfinite.policy = "stop";
    const Recorder together = run(space, Stage::adapt, {bad, calm}, "together");
    expect_equal(together.members.at(1), run(space, Stage::adapt, {good}, "alone").members.at(0));
    const Recorder::Member& member = together.members.at(0);
    ASSERT_EQ(member.outcome.status, TrialStatus::done) << reset << ": " << member.outcome.reason;
    EXPECT_TRUE(member.outcome.nonfinite);
    EXPECT_NE(member.outcome.reason.find("is kept as it was before that pass"), std::string::npos)
        << member.outcome.reason;
    expect_all_finite_and_no_row_twice(member);
    // Nothing good came before: what it ends with is what it began with.
    EXPECT_EQ(member.outcome.steps, 0);
    EXPECT_NEAR(together.metric(0, Phase::after, "nll"), together.metric(0, Phase::before, "nll"), 1e-6);
  }
}

// In the middle, for decay that turns parameters around and lets them grow; at once, with measures between the passes;
// and in the only pass, whose predictions tell.
TEST(AdaptationsThatAreNotFinite, EndTheSameWhereverADrainCame) {
  const Workspace space;
  const ExperimentSpec spec =
      small_spec("ttt: {steps: 30, batch_size: 58, lr: 1, optimizer: {kind: adamw, weight_decay: 1e5}}\n");
  const Fits fits = fit(space, spec, 1, "fit");
  Case bad{spec, 0, 0, {}, fits.last[0]};
  bad.spec.on_nonfinite.policy = "stop";
  const MemberOutcome outcome = run(space, Stage::adapt, {bad}, "diverging").members.at(0).outcome;
  EXPECT_TRUE(outcome.nonfinite);
  EXPECT_GT(outcome.steps, 1);
  EXPECT_LT(outcome.steps, 30);
  expect_resumes_anywhere(space, Stage::adapt, {bad});

  bad.spec.ttt.optimizer.weight_decay = 0;
  bad.spec.ttt.lr = 1e38;
  bad.spec.ttt.eval_every_steps = 1;
  expect_resumes_anywhere(space, Stage::adapt, {bad});
  bad.spec.ttt.eval_every_steps.reset();
  bad.spec.ttt.steps = 1;
  expect_resumes_anywhere(space, Stage::adapt, {bad});
}

// Found by reading: who was put back for a loss was measured again with another whose last update spoiled its
// predictions.
TEST(AdaptationsThatAreNotFinite, AreMeasuredOnceWhereverTheOthersEnd) {
  const Workspace space;
  const ExperimentSpec spec =
      small_spec("ttt: {steps: 30, batch_size: 58, lr: 1, optimizer: {kind: adamw, weight_decay: 1e5}}\n");
  const Fits fits = fit(space, spec, 1, "fit");
  Case one{spec, 0, 0, {}, fits.last[0]};
  one.spec.on_nonfinite.policy = "stop";
  const Recorder diverged = run(space, Stage::adapt, {one}, "one");
  const std::int64_t kept = diverged.members.at(0).outcome.steps;
  // A loss that is not finite is of what the pass before has left: that one is undone, too.
  EXPECT_EQ(diverged.members.at(0).outcome.status, TrialStatus::done) << diverged.members.at(0).outcome.reason;
  EXPECT_TRUE(std::isfinite(diverged.metric(0, Phase::after, "nll")));
  Case other = one;
  const auto good_passes = [&] { return run(space, Stage::adapt, {other}, "other").members.at(0).outcome.steps; };
  for (double decay = 1e5; good_passes() == kept; decay *= 0.8) other.spec.ttt.optimizer.weight_decay = decay;
  ASSERT_EQ(good_passes(), kept + 1);
  other.spec.ttt.steps = static_cast<int>(kept + 1);  // the pass in which the first is put back is its last
  const Recorder alone = run(space, Stage::adapt, {other}, "alone");
  ASSERT_TRUE(alone.members.at(0).outcome.nonfinite) << "its predictions tell";
  const Recorder both = run(space, Stage::adapt, {one, other}, "both");
  for (const auto& [k, member] : both.members) expect_all_finite_and_no_row_twice(member);
  expect_equal(both.members.at(1), alone.members.at(0));
}

// The only update spoils the model after its finite loss was recorded: the predictions tell.
TEST(AdaptationsThatAreNotFinite, StopBeforeTheUpdateThatSpoilsThePredictions) {
  const Workspace space;
  const ExperimentSpec spec = small_spec("ttt: {steps: 1, batch_size: 58, lr: 0.01}\n");
  const Fits fits = fit(space, spec, 1, "fit");
  Case bad{spec, 0, 0, {}, fits.last[0]};
  bad.spec.ttt.lr = 1e38;
  bad.spec.on_nonfinite.policy = "stop";
  const Recorder recorder = run(space, Stage::adapt, {bad}, "a");
  const Recorder::Member& member = recorder.members.at(0);
  ASSERT_EQ(member.outcome.status, TrialStatus::done) << member.outcome.reason;
  EXPECT_NE(member.outcome.reason.find("predictions are not finite after pass 0"), std::string::npos);
  EXPECT_EQ(recorder.metric(0, Phase::after, "nll"), recorder.metric(0, Phase::before, "nll"));
  expect_all_finite_and_no_row_twice(member);
}

}  // namespace
}  // namespace tenfold::testing

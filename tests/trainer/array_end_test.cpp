// How members leave an array: each with its own last rows, its own parameters and its own outcome, whatever the others
// do, and never with a row told twice.
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <tuple>

#include "datasets/safetensors.h"
#include "experiments/metric.h"
#include "tests/trainer/array_harness.h"

namespace tenfold::testing {
namespace {

// The store's primary key of evaluations is (unit, phase, metric, step).
void expect_no_row_twice(const Recorder::Member& member) {
  std::set<std::tuple<Phase, std::int32_t, std::int64_t>> seen;
  for (const EvaluationRow& row : member.evaluations)
    EXPECT_TRUE(seen.insert({row.phase, row.metric, row.step}).second)
        << to_string(row.phase) << " at step " << row.step;
}

std::vector<std::int64_t> steps_of(const Recorder::Member& member, Phase phase, const std::string& metric) {
  std::vector<std::int64_t> steps;
  for (const EvaluationRow& row : member.evaluations)
    if (row.phase == phase && row.metric == metric_index(metric)) steps.push_back(row.step);
  return steps;
}

TEST(AdaptArray, LetsAStoppedMemberGoWithItsLastRowsWhileOthersGoOn) {
  const Workspace space;
  ExperimentSpec spec = small_spec("ttt: {steps: 7, batch_size: 16, lr: 0.01, eval_every_steps: 2}\n");
  const Fits fits = fit(space, spec, 1, "fit");
  Case going{spec, 0, 0, {}, fits.last[0]}, stopping = going;
  stopping.spec.ttt.stop.patience = 1;
  stopping.spec.ttt.stop.after = 2;
  stopping.spec.ttt.stop.min_delta = 100;  // nothing is a gain: it stops at pass 2
  const Recorder both = run(space, Stage::adapt, {stopping, going}, "both");
  const Recorder::Member& stopped = both.members.at(0);
  ASSERT_EQ(stopped.ttt_steps.size(), 3U);
  EXPECT_EQ(stopped.outcome.status, TrialStatus::done);
  EXPECT_EQ(stopped.outcome.steps, 3);
  EXPECT_NE(stopped.outcome.reason.find("no improvement"), std::string::npos);
  EXPECT_EQ(steps_of(stopped, Phase::after, "nll"), (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(steps_of(both.members.at(1), Phase::after, "nll"), (std::vector<std::int64_t>{1, 3, 5, 6}));
  expect_no_row_twice(stopped);
  expect_no_row_twice(both.members.at(1));
  expect_equal(stopped, run(space, Stage::adapt, {stopping}, "alone").members.at(0));
  expect_equal(both.members.at(1), run(space, Stage::adapt, {going}, "other").members.at(0));
}

TEST(AdaptArray, FailsAMemberWhosePredictionsEndUpNotFinite) {
  const Workspace space;
  const ExperimentSpec spec = small_spec("ttt: {steps: 1, batch_size: 58, lr: 0.01}\n");
  const Fits fits = fit(space, spec, 1, "fit");
  Case good{spec, 0, 0, {}, fits.last[0]}, bad = good;
  bad.spec.ttt.lr = 1e38;  // the only update makes them so: every recorded loss is finite
  const Recorder recorder = run(space, Stage::adapt, {bad, good}, "a");
  EXPECT_EQ(recorder.members.at(0).outcome.status, TrialStatus::failed);
  EXPECT_NE(recorder.members.at(0).outcome.reason.find("predictions are not finite after pass 0"), std::string::npos)
      << recorder.members.at(0).outcome.reason;
  EXPECT_TRUE(steps_of(recorder.members.at(0), Phase::after, "nll").empty());
  EXPECT_EQ(recorder.members.at(1).outcome.status, TrialStatus::done);
}

TEST(FitArray, KeepsANanToItsMemberAndEndsItAtOnce) {
  const Workspace space;
  const ExperimentSpec spec = small_spec();
  ExperimentSpec wild = spec;
  wild.train.optimizer.lr = 1e38;
  Recorder together = run(space, Stage::fit, {{spec, 0, 0, {}, {}}, {wild, 0, 0, {}, {}}, {spec, 0, 1, {}, {}}}, "a");
  const Recorder alone = run(space, Stage::fit, {{spec, 0, 0, {}, {}}, {spec, 0, 1, {}, {}}}, "b");
  expect_equal(together.members.at(0), alone.members.at(0));
  expect_equal(together.members.at(2), alone.members.at(1));
  const Recorder::Member& failed = together.members.at(1);
  EXPECT_EQ(failed.outcome.status, TrialStatus::failed);
  EXPECT_FALSE(failed.outcome.retry);
  EXPECT_NE(failed.outcome.reason.find("at update " + std::to_string(failed.train_steps.back().step)),
            std::string::npos)
      << failed.outcome.reason;
  EXPECT_EQ(failed.outcome.steps, failed.train_steps.back().step);
  for (const CheckpointNotice& notice : together.checkpoints)
    EXPECT_EQ(std::count(notice.members.begin(), notice.members.end(), 1), notice.last ? 0 : 1);
}

TEST(FitArray, ReleasesThoseThatStopEarlyWithTheirOwnParameters) {
  const Workspace space;
  ExperimentSpec spec = small_spec();
  spec.folds.validation = 0.2;
  spec.train.epochs = 12;
  spec.train.optimizer.lr = 0.05;
  spec.train.early_stopping.patience = 2;
  ExperimentSpec patient = spec;
  patient.train.early_stopping.patience = 100;
  const Recorder both = run(space, Stage::fit, {{spec, 0, 0, {}, {}}, {patient, 0, 0, {}, {}}}, "both");
  const Recorder alone = run(space, Stage::fit, {{spec, 0, 0, {}, {}}}, "alone");
  ASSERT_LT(both.members.at(0).train_steps.size(), both.members.at(1).train_steps.size());
  expect_equal(both.members.at(0), alone.members.at(0));
  expect_no_row_twice(both.members.at(0));
  EXPECT_EQ(both.members.at(0).outcome.steps, both.members.at(0).train_steps.back().step);
  const CheckpointRef mine = newest(both, 0), its = newest(alone, 0);
  EXPECT_EQ(mine.step, its.step);
  EXPECT_EQ(mine.sha256, its.sha256);  // the file holds it alone
  // Killed between the last checkpoint and its outcome: only the latter comes, no row again.
  const Recorder again = run(space, Stage::fit, {{spec, 0, 0, mine, {}}}, "again");
  EXPECT_EQ(again.members.at(0).outcome.status, TrialStatus::done);
  EXPECT_TRUE(again.members.at(0).train_steps.empty() && again.members.at(0).evaluations.empty());
}

TEST(FitArray, WritesCheckpointsAtTheStepsThatWereAskedFor) {
  const Workspace space;
  ExperimentSpec spec = small_spec();
  spec.checkpoint.every_s = 1e9;
  spec.checkpoint.every_steps = 10;
  const Recorder recorder = run(space, Stage::fit, {{spec, 0, 0, {}, {}}}, "a");
  const auto steps_of_checkpoints = [](const Recorder& of) {
    std::vector<std::int64_t> steps;
    for (const CheckpointNotice& notice : of.checkpoints) steps.push_back(notice.step);
    return steps;
  };
  EXPECT_EQ(steps_of_checkpoints(recorder), (std::vector<std::int64_t>{10, 20, 30, 33}));
  EXPECT_TRUE(recorder.checkpoints.back().last);
  spec.checkpoint.every_steps.reset();
  expect_equal(recorder.members.at(0), run(space, Stage::fit, {{spec, 0, 0, {}, {}}}, "b").members.at(0));
  spec.checkpoint.keep_every_steps = 12;  // what is to be kept is written without being asked for twice
  EXPECT_EQ(steps_of_checkpoints(run(space, Stage::fit, {{spec, 0, 0, {}, {}}}, "c")),
            (std::vector<std::int64_t>{12, 24, 33}));
}

TEST(FitArray, TellsTheWholeTimeOfItsMembers) {
  const Workspace space;
  const auto start = std::chrono::steady_clock::now();
  const Fits fits = fit(space, small_spec(), 3, "a");
  const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  double told = 0, stepped = 0;
  for (const auto& [k, member] : fits.recorder.members) {
    told += member.outcome.wall_s;
    for (const TrainStepRow& row : member.train_steps) stepped += row.wall_s;
  }
  EXPECT_LE(told, wall);
  EXPECT_GT(told, stepped);
}

}  // namespace
}  // namespace tenfold::testing

#include "experiments/sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/experiments/samples.h"

namespace tenfold::testing {
namespace {

using ::testing::ElementsAre;

Experiment swept(const std::string& sweep, const std::vector<std::string>& overrides = {}) {
  return parsed("dataset: digits\nsweep: " + sweep, overrides);
}

TEST(Sweep, WithoutOneThereIsOneConfiguration) {
  const Experiment experiment = parsed("dataset: digits");
  EXPECT_THAT(labels(experiment), ElementsAre("default"));
  EXPECT_TRUE(experiment.configurations()[0].parameters.empty());
  EXPECT_EQ(experiment.name(), "x");
}

TEST(Sweep, AnEmptyOneIsRefused) {
  EXPECT_THAT(refusal("dataset: digits\nsweep: {}\n"), ::testing::StartsWith("x.yaml:2:8: sweep is empty"));
  EXPECT_EQ(refusal("dataset: digits\nsweep: {ttt.lr: [1, 2]}\n", {"sweep=null"}), "");
}

TEST(Sweep, GridRunsTheLastAxisFastest) {
  const Experiment experiment =
      swept("{ttt.batch_size: [32, 64], ttt.lr: [3e-5, 1e-4], ttt.parameters: [norm, [norm, \"first:1\"]]}");
  EXPECT_THAT(
      labels(experiment),
      ElementsAre("batch_size=32 lr=3e-05 parameters=norm", "batch_size=32 lr=3e-05 parameters=[norm,first:1]",
                  "batch_size=32 lr=0.0001 parameters=norm", "batch_size=32 lr=0.0001 parameters=[norm,first:1]",
                  "batch_size=64 lr=3e-05 parameters=norm", "batch_size=64 lr=3e-05 parameters=[norm,first:1]",
                  "batch_size=64 lr=0.0001 parameters=norm", "batch_size=64 lr=0.0001 parameters=[norm,first:1]"));
  const ExperimentSpec last = experiment.resolve(7);
  EXPECT_EQ(last.ttt.batch_size, 64);
  EXPECT_EQ(last.ttt.lr, 1e-4);
  EXPECT_THAT(*last.ttt.parameters, ElementsAre("norm", "first:1"));
  using Parameter = std::pair<std::string, std::string>;
  EXPECT_THAT(experiment.configurations()[7].parameters,
              ElementsAre(Parameter("ttt.batch_size", "64"), Parameter("ttt.lr", "0.0001"),
                          Parameter("ttt.parameters", "[norm, first:1]")));
}

TEST(Sweep, LabelsUseTheShortestUnambiguousKeys) {
  EXPECT_EQ(labels(swept("{train.batch_size: [16, 32], ttt.batch_size: [8, 9]}"))[0],
            "train.batch_size=16 ttt.batch_size=8");
  EXPECT_EQ(labels(swept("{train.optimizer.lr: [0.1, 0.2], ttt.lr: [1, 2]}"))[0], "optimizer.lr=0.1 ttt.lr=1");
  EXPECT_EQ(labels(swept("{train.optimizer.kind: [sgd, adam]}"))[0], "optimizer=sgd");
  EXPECT_EQ(labels(swept("{train.schedule: [cosine, {kind: step, factor: 0.5}]}"))[1],
            "schedule={kind:step,factor:0.5}");
  EXPECT_EQ(labels(swept("{ttt.query_size: [all, 100]}"))[0], "query_size=all");
  // What does not vary is no part of the label.
  EXPECT_THAT(labels(swept("{ttt.lr: [1e-3], ttt.steps: [1, 2]}")), ElementsAre("steps=1", "steps=2"));
  EXPECT_THAT(labels(swept("{ttt.lr: [1e-3]}")), ElementsAre("default"));
}

TEST(Sweep, CasesAreCrossedWithTheGrid) {
  const Experiment experiment =
      swept("{cases: {gentle: {ttt.lr: 1e-5, ttt.steps: 100}, plain: {}}, ttt.batch_size: [32, 64]}");
  EXPECT_THAT(labels(experiment), ElementsAre("gentle batch_size=32", "gentle batch_size=64", "plain batch_size=32",
                                              "plain batch_size=64"));
  EXPECT_EQ(experiment.resolve(1).ttt.steps, 100);
  EXPECT_EQ(experiment.resolve(2).ttt.steps, 50);
}

TEST(Sweep, ExcludeAndInclude) {
  const Experiment experiment = swept(
      "{ttt.lr: [1e-4, 1e-3], ttt.parameters: [norm, all], exclude: [{ttt.lr: 0.001, ttt.parameters: all}],"
      " include: [{ttt.method: source}]}");
  EXPECT_THAT(labels(experiment), ElementsAre("lr=0.0001 parameters=norm", "lr=0.0001 parameters=all",
                                              "lr=0.001 parameters=norm", "method=source"));
  EXPECT_EQ(experiment.resolve(3).ttt.steps, 0);
  EXPECT_THAT(labels(swept("{include: [{ttt.steps: 3}, {ttt.steps: 4}]}")), ElementsAre("steps=3", "steps=4"));
}

TEST(Sweep, OverridesReplaceAxes) {
  const std::string sweep = "{ttt.lr: [1e-4, 1e-3], ttt.steps: [1, 2]}";
  const Experiment experiment = swept(sweep, {"ttt.lr=5e-2"});
  EXPECT_THAT(labels(experiment), ElementsAre("steps=1", "steps=2"));
  EXPECT_EQ(experiment.resolve(1).ttt.lr, 0.05);
  EXPECT_THAT(labels(swept(sweep, {"sweep.ttt.lr=[1, 2, 3]", "ttt.steps=4"})), ElementsAre("lr=1", "lr=2", "lr=3"));
  EXPECT_THAT(labels(swept(sweep, {"sweep=null"})), ElementsAre("default"));
  // The short form of a section sets its kind.
  EXPECT_THAT(labels(swept("{train.schedule.kind: [cosine, step]}", {"train.schedule=constant"})),
              ElementsAre("default"));
}

TEST(Sweep, MethodDefaultsFollowTheSweptMethod) {
  const Experiment experiment = swept("{ttt.method: [entropy_diversity, tent, shot_im, source]}");
  const TttSpec reference = experiment.resolve(0).ttt, tent = experiment.resolve(1).ttt,
                shot = experiment.resolve(2).ttt, source = experiment.resolve(3).ttt;
  EXPECT_EQ(reference.lr, 3e-5);
  EXPECT_EQ(reference.optimizer.weight_decay, 1e-5);
  EXPECT_EQ(reference.clip_norm, 1.0);
  EXPECT_EQ(reference.query_size, 750);
  EXPECT_EQ(reference.schedule->kind, "plateau");
  EXPECT_EQ(reference.schedule->factor, 0.8);
  EXPECT_EQ(reference.schedule->patience, 20);
  EXPECT_EQ(reference.schedule->min_lr, 1e-6);
  EXPECT_EQ(tent.optimizer.kind, "adam");
  EXPECT_EQ(tent.lr, 1e-3);
  EXPECT_EQ(tent.steps, 1);
  EXPECT_EQ(tent.clip_norm, 0.0);
  EXPECT_EQ(tent.shuffle, false);
  EXPECT_THAT(*tent.parameters, ElementsAre("norm"));
  EXPECT_THAT(*shot.parameters, ElementsAre("body"));
  EXPECT_EQ(shot.optimizer.kind, "sgd");
  EXPECT_EQ(source.steps, 0);
}

TEST(Sweep, APartOfAScheduleKeepsTheRestOfTheMethods) {
  const ScheduleSpec schedule = *parsed("dataset: digits\nttt: {schedule: {patience: 10}}").base().ttt.schedule;
  EXPECT_EQ(schedule.kind, "plateau");
  EXPECT_EQ(schedule.patience, 10);
  EXPECT_EQ(schedule.factor, 0.8);
  const ScheduleSpec other = *parsed("dataset: digits\nttt: {schedule: step}").base().ttt.schedule;
  EXPECT_EQ(other.kind, "step");
  EXPECT_EQ(other.factor, 0.1);
}

TEST(Sweep, TheCountThatIsSetLastIsTheOneThatCounts) {
  const std::string text = "dataset: digits\ntrain: {steps: 100}\n";
  EXPECT_EQ(parsed(text).base().train.steps, 100);
  const Experiment experiment = parsed(text + "sweep: {train.epochs: [3, 4]}");
  EXPECT_FALSE(experiment.resolve(1).train.steps.has_value());
  EXPECT_EQ(experiment.resolve(1).train.epochs, 4);
}

TEST(Sweep, HugeGridsAreRefusedBeforeTheyAreMade) {
  std::string axis = "[0";
  for (int i = 1; i < 1000; ++i) axis += ", " + std::to_string(i);
  axis += "]";
  EXPECT_THAT(
      refusal("dataset: digits\nsweep: {seed: " + axis + ", ttt.lr: " + axis + ", ttt.diversity_weight: " + axis + "}"),
      ::testing::HasSubstr("more than 1000000 configurations"));
}

}  // namespace
}  // namespace tenfold::testing

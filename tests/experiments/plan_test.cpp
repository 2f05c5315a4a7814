#include "experiments/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/experiments/samples.h"

namespace tenfold::testing {
namespace {

Experiment digits(const std::vector<std::string>& overrides = {}) {
  return Experiment::load(source_folder() / "experiments/digits.yaml", overrides);
}

std::set<Digest> identities(const auto& units) {
  std::set<Digest> out;
  for (const auto& unit : units) out.insert(unit.identity);
  return out;
}

std::string plan_refusal(const Experiment& experiment, const DatasetSummariser& summarise = summary_of) {
  try {
    make_plan(experiment, summarise);
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

TEST(Plan, DigitsTrainsFiveTimesForSixtyTrials) {
  const Experiment experiment = digits();
  ASSERT_EQ(experiment.configurations().size(), 12u);
  int looked = 0;
  const Plan plan = make_plan(experiment, [&](const ExperimentSpec& spec) {
    ++looked;
    return summary_of(spec);
  });
  EXPECT_EQ(looked, 1);
  EXPECT_EQ(plan.fits.size(), 5u);
  EXPECT_EQ(plan.trials.size(), 60u);
  EXPECT_EQ(identities(plan.fits).size(), 5u);
  EXPECT_EQ(identities(plan.trials).size(), 60u);
  for (std::size_t i = 0; i < plan.trials.size(); ++i) {
    const TrialUnit& trial = plan.trials[i];
    EXPECT_EQ(trial.configuration, static_cast<std::int32_t>(i / 5));
    EXPECT_EQ(plan.split(trial).fold, static_cast<int>(i % 5));
    EXPECT_EQ(plan.fits[static_cast<std::size_t>(trial.fit)].split, trial.split);
  }
}

TEST(Plan, WithoutSharingEveryTrialHasItsFit) {
  const Experiment experiment = digits();
  const Plan shared = make_plan(experiment, summary_of), alone = make_plan(experiment, summary_of, false);
  EXPECT_EQ(alone.fits.size(), 60u);
  EXPECT_EQ(identities(alone.fits).size(), 60u);
  // The results are the same, so a trial that is done stays done.
  EXPECT_EQ(identities(alone.trials), identities(shared.trials));
  for (std::size_t i = 0; i < alone.trials.size(); ++i) EXPECT_EQ(alone.trials[i].fit, static_cast<std::int32_t>(i));
}

TEST(Plan, DatasetsAndFoldsThatVaryAreLookedAtOnceEach) {
  const Experiment experiment = digits({"sweep.folds.seed=[0, 1]", "sweep.dataset.shift.severity=[1, 2]"});
  int looked = 0;
  const Plan plan = make_plan(experiment, [&](const ExperimentSpec& spec) {
    ++looked;
    return summary_of(spec);
  });
  EXPECT_EQ(looked, 2);
  EXPECT_EQ(plan.datasets.size(), 2u);
  EXPECT_EQ(plan.fits.size(), 10u);
  EXPECT_EQ(plan.trials.size(), 240u);
}

TEST(Plan, WhatOnlyTheDataCanTell) {
  EXPECT_THAT(plan_refusal(digits({"train.batch_size=5000"})),
              "--set train.batch_size=5000: train.batch_size is 5000, more than the 1438 training samples of fold 0 of "
              "repeat 0: give a smaller one");
  EXPECT_THAT(plan_refusal(digits({"ttt.batch_size=600"})), ::testing::HasSubstr("more than the 359 samples"));
  EXPECT_THAT(plan_refusal(digits({"folds.validation=0.001"})), ::testing::HasSubstr("leaves no validation sample"));
  EXPECT_THAT(plan_refusal(digits(), [](const ExperimentSpec&) { return DatasetSummary{}; }),
              ::testing::HasSubstr("are empty"));
  // A swept value is blamed where it stands.
  const Experiment swept = parsed("dataset: digits\nsweep:\n  train.batch_size: [32, 4000]\n");
  EXPECT_THAT(plan_refusal(swept), ::testing::StartsWith("x.yaml:3:26: train.batch_size is 4000"));
  // Nobody wrote the value that does not fit.
  EXPECT_THAT(plan_refusal(parsed("dataset: digits\nfolds: {k: 40}\n")),
              ::testing::StartsWith("x.yaml:1:1: ttt.batch_size is 64 (the default), more than the 44 samples"));
}

TEST(Plan, WhatTheDataRefuseHasItsPlace) {
  const auto refused_with = [](const char* message) {
    return [message](const ExperimentSpec&) -> DatasetSummary { throw Error(ErrorKind::data, message); };
  };
  const Experiment file = parsed("dataset: {kind: csv, path: a.csv, label_column: y}\nfolds: {k: 500}\n");
  EXPECT_EQ(plan_refusal(file, refused_with("folds.k: 500 folds cannot be made")),
            "x.yaml:2:12: folds.k: 500 folds cannot be made");
  EXPECT_EQ(plan_refusal(file, refused_with("a.csv: cannot be opened")), "x.yaml:1:28: a.csv: cannot be opened");
  EXPECT_EQ(plan_refusal(file, refused_with("a.csv:7: column 'b' has no value")), "a.csv:7: column 'b' has no value");
  EXPECT_EQ(plan_refusal(file, refused_with("no memory")), "no memory");
  const Experiment swept = parsed("dataset: {kind: csv, label_column: y}\nsweep: {dataset.path: [a.csv, b.csv]}\n");
  EXPECT_EQ(plan_refusal(swept, refused_with("b.csv: cannot be opened")), "b.csv: cannot be opened");
  EXPECT_EQ(plan_refusal(swept, refused_with("a.csv: cannot be opened")), "x.yaml:2:24: a.csv: cannot be opened");
}

TEST(Plan, AnAxisWithoutEffectIsRefused) {
  EXPECT_THAT(plan_refusal(digits({"sweep.train.optimizer.momentum=[0.5, 0.9]"})),
              ::testing::HasSubstr("compute the same"));
  EXPECT_EQ(plan_refusal(digits({"train.optimizer.kind=sgd", "sweep.train.optimizer.momentum=[0.5, 0.9]"})), "");
}

TEST(Plan, CountsOfUpdates) {
  ExperimentSpec spec;
  spec.train.batch_size = 32;
  spec.train.epochs = 20;
  EXPECT_EQ(train_updates_per_epoch(spec, 1437), 45);
  EXPECT_EQ(train_updates(spec, 1437), 900);
  spec.train.steps = 7;
  EXPECT_EQ(train_updates(spec, 1437), 7);
  spec.ttt.batch_size = 64;
  resolve_method_defaults(spec);
  EXPECT_EQ(adaptation_set_size(spec, 360), 360);
  EXPECT_EQ(adaptation_set_size(spec, 1000), 750);
  EXPECT_EQ(ttt_updates(spec, 360), 50 * 6);
  spec.ttt.query_size = 0;
  EXPECT_EQ(adaptation_set_size(spec, 1000), 1000);
  spec.ttt.method = "source";
  EXPECT_EQ(ttt_updates(spec, 360), 0);
}

TEST(Plan, ArraysHoldWhatDiffersInRatesAlone) {
  const Experiment experiment = digits();
  const DatasetSummary data = summary_of(experiment.base());
  std::set<std::string> fits, trials;
  for (std::size_t i = 0; i < experiment.configurations().size(); ++i) {
    fits.insert(fit_array_key(experiment.resolve(i), data));
    trials.insert(trial_array_key(experiment.resolve(i), data));
  }
  EXPECT_EQ(fits.size(), 1u);
  EXPECT_EQ(trials.size(), 4u);  // two batch sizes, two adapted sets
  ExperimentSpec wide = experiment.resolve(0);
  wide.model.hidden = {256};
  EXPECT_FALSE(fits.contains(fit_array_key(wide, data)));
  ExperimentSpec seeded = experiment.resolve(0);
  seeded.seed = 5;
  seeded.train.optimizer.lr = 0.5;
  EXPECT_TRUE(fits.contains(fit_array_key(seeded, data)));
}

TEST(Plan, AHundredThousandTrials) {
  const auto axis = [](int n, double scale) {
    std::string out = "[";
    for (int i = 1; i <= n; ++i) out += (i > 1 ? ", " : "") + std::to_string(i * scale);
    return out + "]";
  };
  const Experiment experiment = parsed("dataset: digits\nfolds: {k: 5}\nsweep: {ttt.lr: " + axis(200, 0.001) +
                                       ", ttt.diversity_weight: " + axis(100, 0.01) + "}");
  const Plan plan = make_plan(experiment, summary_of);
  EXPECT_EQ(plan.trials.size(), 100000u);
  EXPECT_EQ(plan.fits.size(), 5u);
  EXPECT_EQ(identities(plan.trials).size(), 100000u);
}

}  // namespace
}  // namespace tenfold::testing

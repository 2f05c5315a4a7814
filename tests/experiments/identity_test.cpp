#include "experiments/identity.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "experiments/spec_access.h"
#include "tests/experiments/samples.h"

namespace tenfold::testing {
namespace {

std::pair<Digest, Digest> contents(const std::string& text, const std::vector<std::string>& overrides = {}) {
  const ExperimentSpec spec = parsed("dataset: digits\n" + text, overrides).resolve(0);
  return {fit_content(spec), trial_content(spec)};
}

// A change here makes every stored result stale: raise kResultsVersion only when results change, and see what
// changed otherwise.
TEST(Identity, OfDigitsStaysWhatItIs) {
  const Experiment experiment = Experiment::load(source_folder() / "experiments/digits.yaml");
  EXPECT_EQ(fit_content(experiment.resolve(0)).hex(),
            "b4289be5cb8864242847ddc84c953e7ff2d9c273bfa0c06672ca4bcbbefbbf4d");
  EXPECT_EQ(trial_content(experiment.resolve(0)).hex(),
            "e6896f95a792cdc39683384cb3c610b41fc39fc9bd772a6fe986f1658db85599");
  const Plan plan = make_plan(experiment, summary_of);
  EXPECT_EQ(plan.trials.front().identity.hex(), "fd9d7118d483124f032b49feed283465e3e0e796e7c568e0b7ec8c78ce8bb100");
}

TEST(Identity, DoesNotDependOnHowAValueIsWritten) {
  EXPECT_EQ(contents("ttt: {lr: 1e-3}"), contents("ttt: {lr: 0.0010}"));
  EXPECT_EQ(contents("train: {optimizer: {lr: 1e-3}}"), contents(""));  // the default, given
  EXPECT_EQ(contents("ttt: {lr: 3e-5, steps: 50}"), contents(""));      // the method's default, given
  EXPECT_EQ(contents("metrics: [nll, accuracy]"), contents("metrics: [accuracy, nll]"));
  EXPECT_EQ(contents("ttt: {parameters: [norm, \"last:1\"]}"), contents("ttt: {parameters: [\"last:1\", norm]}"));
  EXPECT_EQ(contents("ttt: {schedule: {kind: plateau}}"), contents(""));
}

TEST(Identity, IgnoresWhatChangesNoResult) {
  const auto plain = contents("");
  for (const char* text : {"name: other", "resources: {device: cpu, slots: 3}", "checkpoint: {every_s: 1}",
                           "retries: 9", "deterministic: true"})
    EXPECT_EQ(contents(text), plain) << text;
  // Meant for another kind than the one that --set chose.
  EXPECT_EQ(contents("model: {kind: cnn, channels: [8]}", {"model.kind=mlp"}), plain);
  EXPECT_EQ(contents("train: {optimizer: {kind: sgd, momentum: 0.5}}", {"train.optimizer.kind=adamw"}), plain);
  EXPECT_EQ(contents("train: {steps: 10}"), contents("", {"train.epochs=3", "train.steps=10"}));
}

TEST(Identity, FitAndTrialEachSeeTheirOwn) {
  const auto plain = contents("");
  for (const char* text :
       {"seed: 1", "model: {hidden: [64]}", "train: {epochs: 3}", "model: {dropout: 0.1}",
        "train: {optimizer: {beta1: 0.8}}", "train: {label_smoothing: 0.1}", "train: {clip_norm: 2}"}) {
    EXPECT_NE(contents(text).first, plain.first) << text;
    EXPECT_EQ(contents(text).second, plain.second) << text;
  }
  for (const char* text : {"ttt: {lr: 1e-3}", "ttt: {steps: 3}", "ttt: {parameters: norm}", "metrics: [ece]",
                           "ttt: {mode: eval}", "ttt: {stop: {patience: 3}}", "ttt: {schedule: constant}"}) {
    EXPECT_EQ(contents(text).first, plain.first) << text;
    EXPECT_NE(contents(text).second, plain.second) << text;
  }
  EXPECT_NE(contents("", {"dataset.shift=contrast"}).second, plain.second);
  EXPECT_EQ(contents("", {"dataset.shift=contrast"}).first, plain.first);
  EXPECT_NE(contents("", {"dataset.normalisation=minmax"}).first, plain.first);
}

TEST(Identity, EverySplitAndDatasetHasItsOwn) {
  const ExperimentSpec spec = parsed("dataset: digits").resolve(0);
  DatasetSummary data = summary_of(spec);
  const Digest content = fit_content(spec);
  EXPECT_NE(fit_identity(content, data, data.splits[0]), fit_identity(content, data, data.splits[1]));
  SplitSummary repeated = data.splits[0];
  repeated.repeat = 1;  // the same samples, other random numbers
  EXPECT_NE(fit_identity(content, data, data.splits[0]), fit_identity(content, data, repeated));
  DatasetSummary other = data;
  other.fingerprint = sha256("other");
  EXPECT_NE(fit_identity(content, data, data.splits[0]), fit_identity(content, other, data.splits[0]));
}

// The defaults that identities leave out. A new key adds a line. When a default changes, give the old one to
// introduced_as() in spec_fields.h instead of changing the line: stored results were computed with it.
TEST(Identity, IntroducedDefaultsAreKept) {
  std::ifstream file(source_folder() / "tests/experiments/introduced_defaults.txt");
  ASSERT_TRUE(file) << "tests/experiments/introduced_defaults.txt is missing";
  std::map<std::string, std::string> kept;
  for (std::string line; std::getline(file, line);)
    kept[line.substr(0, line.find(' '))] = line.substr(line.find(' ') + 1);
  for (const FieldInfo& field : experiment_fields()) {
    if (field.section) continue;
    ASSERT_TRUE(kept.contains(field.key))
        << "add to introduced_defaults.txt: " << field.key << " " << field.introduced_as;
    EXPECT_EQ(field.introduced_as, kept[field.key]) << field.key;
  }
}

}  // namespace
}  // namespace tenfold::testing

#include "experiments/problems.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/experiments/samples.h"

namespace tenfold::testing {
namespace {

using ::testing::HasSubstr;

TEST(Problems, AllOfAFileAreListedAtTheirPlaces) {
  EXPECT_EQ(refusal("nmae: x\n"
                    "dataset: {kind: digit, shift: {kind: gaussian_noise, severity: 9}}\n"
                    "model: {hidden: [128, many], dropout: 1.0}\n"
                    "train:\n"
                    "  batch: 32\n"
                    "  optimizer: {kind: adamm, lr: -1}\n"
                    "ttt: {lr: \"1e-3\"}\n"
                    "sweep:\n"
                    "  ttt.lrr: [1, 2]\n"
                    "  ttt.batch_size: []\n"),
            "x.yaml:1:1: unknown key \"nmae\"; did you mean \"name\"?\n"
            "x.yaml:2:17: dataset.kind is \"digit\"; allowed: digits, csv, npy, npz, idx, synthetic, hdf5, mat, wav, "
            "synthetic_sequences, text, tokens; did you mean "
            "\"digits\"?\n"
            "x.yaml:2:64: dataset.shift.severity is 9; allowed: 1 to 5\n"
            "x.yaml:3:23: model.hidden wants a whole number, not \"many\"\n"
            "x.yaml:3:39: model.dropout is 1; allowed: from 0 to below 1\n"
            "x.yaml:5:3: unknown key \"batch\" in train; did you mean \"batch_size\"?\n"
            "x.yaml:6:21: train.optimizer.kind is \"adamm\"; allowed: sgd, adam, adamw; did you mean \"adam\"?\n"
            "x.yaml:6:32: train.optimizer.lr is -1; allowed: 0 and above\n"
            "x.yaml:7:11: ttt.lr wants a number, not \"1e-3\" (in quotes it is a text)\n"
            "x.yaml:9:3: unknown key \"lrr\" in ttt; did you mean \"lr\"?\n"
            "x.yaml:10:19: sweep has no value for ttt.batch_size: give at least one, or leave the key out");
}

struct Refused {
  const char* text;
  const char* message;
};

class RefusedFiles : public ::testing::TestWithParam<Refused> {};

TEST_P(RefusedFiles, SayWhereAndWhat) { EXPECT_THAT(refusal(GetParam().text), HasSubstr(GetParam().message)); }

INSTANTIATE_TEST_SUITE_P(
    Syntax, RefusedFiles,
    ::testing::Values(Refused{"", "x.yaml: the file is empty"},
                      Refused{"[1, 2]", "x.yaml:1:1: an experiment file holds"},
                      Refused{"dataset: digits\ntrain: {epochs: [1", "x.yaml:2:"},
                      Refused{"dataset: digits\ndataset: csv", "x.yaml:2:1: key \"dataset\" is given twice"},
                      Refused{"dataset: !!python/object digits", "x.yaml:1:10: tags such as"},
                      Refused{"dataset: digits\n---\ndataset: csv", "x.yaml:3:1: a second document"},
                      Refused{"dataset: digits\n{a: 1}: 2", "x.yaml:2:"},
                      Refused{"dataset: digits\nseed: \x01", "x.yaml:2:7: a control character"},
                      Refused{"name: x\ndataset: {kind: wav, file_pattern: \"(\xC7)\"}",
                              "x.yaml:2:38: a character that is not UTF-8"}));

INSTANTIATE_TEST_SUITE_P(
    Values, RefusedFiles,
    ::testing::Values(
        Refused{"dataset: digits\ntrain: {epochs: 2.5}", "x.yaml:2:17: train.epochs wants a whole number, not \"2.5\""},
        Refused{"dataset: digits\ntrain: {epochs: 99999999999}", "(out of range)"},
        Refused{"dataset: digits\nseed: -1", "x.yaml:2:7: seed wants a whole number, not \"-1\""},
        Refused{"dataset: digits\ntrain: {optimizer: {lr: .nan}}", "train.optimizer.lr wants a number"},
        Refused{"dataset: digits\ntrain: {optimizer: {lr: inf}}", "train.optimizer.lr wants a number"},
        Refused{"dataset: digits\ndeterministic: yes", "x.yaml:2:16: deterministic is \"yes\"; allowed: true, false"},
        Refused{"dataset: digits\ntrain: 5", "x.yaml:2:8: train wants keys and values, not \"5\""},
        Refused{"dataset: digits\ntrain: {clip_norm: 0}", "train.clip_norm is 0; allowed: above 0, or none"},
        Refused{"dataset: digits\nmetrics: [nll, nll]", "metrics names \"nll\" twice"},
        Refused{"dataset: digits\ntrain: {lr: 0.1}", "did you mean train.optimizer.lr or ttt.lr?"},
        Refused{"dataset: digits\nttt.lr: 0.1", "written in its section"},
        Refused{"dataset: digits\nttt: {stop: [1]}", "ttt.stop wants keys and values, not a list"}));

INSTANTIATE_TEST_SUITE_P(
    Contradictions, RefusedFiles,
    ::testing::Values(
        Refused{"dataset: synthetic_sequences\nmodel: {kind: ttt_rnn, ttt: {inner: per_batch}}\nresources: "
                "{ranks_per_trial: 2}",
                "x.yaml:3:30: resources.ranks_per_trial is 2, but model.ttt.inner per_batch"},
        Refused{"dataset: digits\ntrain: {batch_size: 3}\nresources: {ranks_per_trial: 4}",
                "resources.ranks_per_trial is 4, more than train.batch_size (3)"},
        Refused{"seed: 1", "x.yaml:1:1: dataset.kind is missing"}, Refused{"dataset: csv", "dataset.path is missing"},
        Refused{"dataset: {kind: csv, path: a.csv}", "dataset.label_column is missing"},
        Refused{"dataset: digits\ntrain: {epochs: 2, steps: 3}", "x.yaml:2:27: train.steps and train.epochs are both"},
        Refused{"dataset: digits\ntrain: {schedule: plateau}",
                "x.yaml:2:19: train.schedule plateau needs a validation"},
        Refused{"dataset: digits\ntrain: {early_stopping: 3}", "x.yaml:2:25: train.early_stopping needs a validation"},
        Refused{"dataset: digits\nttt: bn", "x.yaml:2:6: ttt.method bn adapts the statistics of batch norms"},
        Refused{"dataset: digits\nmodel: {norm: none}\nttt: tent", "x.yaml:3:6: ttt.method tent adapts norm layers"},
        Refused{"dataset: digits\nmodel: {norm: none}\nttt: {parameters: norm}",
                "x.yaml:3:19: ttt.parameters norm, but"},
        Refused{"dataset: digits\nfolds: {kind: predefined}", "x.yaml:2:15: folds.kind predefined needs a column"},
        Refused{"dataset: {kind: csv, path: a, label_column: y}\nfolds: predefined", "needs dataset.fold_column"},
        Refused{"dataset: digits\nfolds: group", "x.yaml:2:8: folds.kind group needs groups"},
        Refused{"dataset: {kind: csv, path: a, label_column: y, fold_column: f}\nfolds: {kind: predefined, repeats: 2}",
                "x.yaml:2:36: folds.repeats is 2, but folds.kind predefined has nothing random"},
        Refused{"dataset: digits\nmetrics: [auroc_unseen]", "needs folds.kind held_out_class"},
        Refused{"dataset: digits\nmodel: {kind: cnn, kernel_size: 4}", "model.kernel_size is 4; allowed: odd numbers"},
        Refused{"dataset: synthetic\nmodel: cnn", "model.kind cnn needs images"},
        Refused{"dataset: digits\nname: a/b", "x.yaml:2:7: name is \"a/b\"; allowed: a name of letters"},
        Refused{"dataset: digits\nttt: {batch_size: 64, query_size: 32}", "more than ttt.query_size (32)"}));

INSTANTIATE_TEST_SUITE_P(
    Sweeps, RefusedFiles,
    ::testing::Values(
        Refused{"dataset: digits\nsweep: {ttt.lr: 1e-3}", "x.yaml:2:17: sweep wants a list of values for ttt.lr"},
        Refused{"dataset: digits\nsweep: {ttt: {lr: [1]}}", "inside sweep keys are dotted, such as ttt.lr: [...]"},
        Refused{"dataset: digits\nsweep: {ttt.lr: [1e-3, 0.001]}",
                "x.yaml:2:24: sweep gives ttt.lr the value 0.001 twice"},
        Refused{"dataset: digits\nsweep: {model.hidden: [128, 128]}", "needs brackets of its own"},
        Refused{"dataset: digits\nsweep: {resources.slots: [1, 2]}", "resources.slots changes no result"},
        Refused{"dataset: digits\nsweep: {train.schedule: [cosine], train.schedule.min_lr: [0, 1]}",
                "sweep varies both"},
        Refused{"dataset: digits\nsweep: {ttt.lr: [1], cases: {a: {ttt.lr: 2}}}",
                "case \"a\" sets ttt.lr, which is an axis"},
        Refused{"dataset: digits\nsweep: {ttt.lr: [1, 2], exclude: [{ttt.lr: 3}]}", "sweep.exclude drops nothing here"},
        Refused{"dataset: digits\nsweep: {ttt.lr: [1, 2], exclude: [{ttt.steps: 3}]}", "which the sweep does not vary"},
        Refused{"dataset: digits\nsweep: {ttt.lr: [1], exclude: [{ttt.lr: 1}]}", "drops every configuration"},
        Refused{"dataset: digits\nsweep: {ttt.lr: [1, 2], include: [{ttt.lr: 2}]}",
                "x.yaml:2:35: the sweep gives configuration"},
        Refused{"dataset: digits\nsweep: {ttt.method: [entropy_diversity, bn]}", "(configuration \"method=bn\")"},
        Refused{"dataset: digits\nsweep: {seed: [1, 2], ttt.lr: [a]}",
                "x.yaml:2:32: ttt.lr wants a number, not \"a\""}));

INSTANTIATE_TEST_SUITE_P(
    WhatNoConfigurationReads, RefusedFiles,
    ::testing::Values(
        Refused{"dataset: {kind: digits, separation: 3}",
                "x.yaml:1:37: dataset.separation means nothing where dataset.kind is digits: take it out (it is for "
                "synthetic, synthetic_sequences)"},
        Refused{"dataset: {kind: synthetic, path: x.csv}", "it is for csv, npy, npz, idx"},
        Refused{"dataset: digits\nmodel: {channels: [8]}",
                "x.yaml:2:19: model.channels means nothing where model.kind"},
        Refused{"dataset: {kind: synthetic, group_count: 4}\nfolds: {kind: leave_one_group_out, k: 7}",
                "x.yaml:2:39: folds.k means nothing"},
        Refused{"dataset: digits\ntrain: {optimizer: {kind: adamw, momentum: 0.5}}", "it is for sgd"},
        Refused{"dataset: digits\nttt: {method: tent, adaptive_weight: true}", "it is for entropy_diversity"},
        Refused{"dataset: digits\nmodel: {channels: [8]}\nsweep: {ttt.lr: [1, 2]}", "x.yaml:2:19: model.channels"}));

TEST(Problems, WhatSomeConfigurationReadsMayBeGiven) {
  EXPECT_EQ(refusal("dataset: digits\nmodel: {channels: [8]}\nsweep: {model.kind: [mlp, cnn]}"), "");
  EXPECT_EQ(refusal("dataset: digits\nttt: {diversity_weight: 0.2}\nsweep: {include: [{ttt.method: source}, "
                    "{ttt.lr: 1}]}"),
            "");
  // Another kind for one call: the file need not be changed for it.
  EXPECT_EQ(refusal("dataset: digits\nttt: {diversity_weight: 0.2}", {"ttt.method=source"}), "");
  EXPECT_EQ(refusal("dataset: digits\nttt: {diversity_weight: 0.2}", {"ttt=source"}), "");
  EXPECT_THAT(refusal("dataset: digits", {"ttt.method=source", "ttt.diversity_weight=0.2"}),
              ::testing::StartsWith("--set ttt.diversity_weight=0.2: ttt.diversity_weight means nothing"));
}

TEST(Problems, OverridesAreNamedByTheirOption) {
  const std::string digits = "dataset: digits\n";
  EXPECT_EQ(refusal(digits, {"ttt.lr=abc"}), "--set ttt.lr=abc: ttt.lr wants a number, not \"abc\"");
  EXPECT_EQ(refusal(digits, {"ttt.foo.bar=1"}).substr(0, 42), "--set ttt.foo.bar=1: unknown key \"foo\" in ");
  EXPECT_EQ(refusal(digits, {"nothing"}), "--set nothing: wants key=value, such as ttt.lr=1e-4");
  EXPECT_THAT(refusal(digits, {"ttt.lr=[1"}), ::testing::StartsWith("--set ttt.lr=[1: this is not valid YAML"));
  EXPECT_THAT(refusal(digits, {"ttt.method=bn"}), ::testing::StartsWith("--set ttt.method=bn: ttt.method bn adapts"));
}

TEST(Problems, MissingFileIsNamed) {
  try {
    Experiment::load("/no/such/file.yaml");
    FAIL() << "a missing file was read";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::config);
    EXPECT_STREQ(error.what(), "/no/such/file.yaml: there is no such file");
  }
}

TEST(Problems, NearestWord) {
  const std::string_view words[] = {"batch_size", "epochs", "optimizer", "lr"};
  EXPECT_EQ(nearest("optimiser", words), "optimizer");
  EXPECT_EQ(nearest("batch", words), "batch_size");
  EXPECT_EQ(nearest("BatchSize", words), "batch_size");
  EXPECT_EQ(nearest("epohcs", words), "epochs");
  EXPECT_EQ(nearest("rl", words), "lr");
  EXPECT_EQ(nearest("momentum", words), "");
}

}  // namespace
}  // namespace tenfold::testing

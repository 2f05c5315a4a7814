#pragma once

#include <array>

#include "experiments/field.h"
#include "experiments/spec.h"

// Keys of `dataset` and `folds` (see spec_fields.h).
namespace tenfold {

namespace names {
using std::string_view;
inline constexpr std::array<string_view, 7> shifts = {"none",      "gaussian_noise",  "contrast", "blur",
                                                      "translate", "feature_dropout", "rotate"};
inline constexpr std::array<string_view, 12> datasets = {
    "digits", "csv", "npy", "npz", "idx", "synthetic", "hdf5", "mat", "wav", "synthetic_sequences", "text", "tokens"};
inline constexpr std::array<string_view, 2> missing = {"error", "drop"};
inline constexpr std::array<string_view, 4> normalisations = {"standard", "minmax", "robust", "none"};
inline constexpr std::array<string_view, 2> transforms = {"none", "log1p"};
inline constexpr std::array<string_view, 2> normalise_by = {"set", "group"};
inline constexpr std::array<string_view, 8> folds = {
    "kfold",    "stratified",          "group",          "stratified_group",
    "repeated", "leave_one_group_out", "held_out_class", "predefined"};
}  // namespace names

template <>
struct Fields<ShiftSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = ShiftSpec;
    visit(Field{"kind", "what happens to the held-out fold, in raw space before normalisation"}
              .one_of(names::shifts)
              .short_form(),
          &S::kind);
    visit(Field{"severity", "strength of the shift, 1 (weak) to 5; strengths are in datasets/README.md"}
              .at_least(1)
              .at_most(5),
          &S::severity);
  }
};

template <>
struct Fields<DatasetSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = DatasetSpec;
    visit(Field{"kind", "where samples come from"}.one_of(names::datasets).short_form(), &S::kind);
    visit(Field{"path", "the file; npy, idx: the file of samples; wav: the folder, or a tar archive of it"}, &S::path);
    visit(Field{"labels", "npy, idx: the file of labels"}, &S::labels);
    visit(Field{"groups", "npy: the file of groups; none when empty"}, &S::groups);
    visit(Field{"samples_key", "npz: name of the array of samples"}, &S::samples_key);
    visit(Field{"labels_key", "npz: name of the array of labels"}, &S::labels_key);
    visit(Field{"groups_key", "npz: name of the array of groups; none when empty"}, &S::groups_key);
    visit(Field{"offsets_key", "npz: name of the (N + 1) first rows of ragged sequences; none when empty"},
          &S::offsets_key);
    visit(Field{"features_key", "hdf5, mat: name of the (time, features) array of a trial"}, &S::features_key);
    visit(Field{"targets_key", "hdf5, mat: name of the labels, one per time step or one of the sequence"},
          &S::targets_key);
    visit(Field{"session_attribute",
                "hdf5: attribute, mat: variable that holds a trial's session, its group; none when empty"},
          &S::session_attribute);
    visit(
        Field{"file_pattern",
              "wav: regular expression of file names without their ending; its groups named label and group are them"},
        &S::file_pattern);
    visit(Field{"sample_rate", "wav: samples per second that files must have"}.at_least(1000).at_most(768'000),
          &S::sample_rate);
    visit(Field{"mels", "wav: bands of the log-mel spectrum, the features of a step"}.at_least(2).at_most(1024),
          &S::mels);
    visit(Field{"frame_ms", "wav: length of a frame, milliseconds"}.above(0).at_most(10'000), &S::frame_ms);
    visit(Field{"hop_ms", "wav: from one frame to the next, milliseconds"}.above(0).at_most(10'000), &S::hop_ms);
    visit(Field{"tokenizer", "text: a SentencePiece model; bytes are the tokens when empty"}, &S::tokenizer);
    visit(Field{"vocabulary", "tokens: number of different tokens; 0: the largest one and 1"}.at_least(0).at_most(
              10'000'000),
          &S::vocabulary);
    visit(Field{"sequence_length", "text, tokens: predicted tokens of one sample"}.at_least(1).at_most(10'000'000),
          &S::sequence_length);
    visit(Field{"feature_ranges",
                "sequences: columns that the model sees, each first:end (end not included); all when empty"},
          &S::feature_ranges);
    visit(Field{"max_length", "sequences: steps after which a sequence is cut"}
              .at_least(0)
              .at_most(100'000'000)
              .or_zero("none"),
          &S::max_length);
    visit(Field{"length_buckets", "sequences: how many padded lengths batches come in"}.at_least(1).at_most(1000),
          &S::length_buckets);
    visit(Field{"transform", "sequences: of every value before normalisation; log1p is sign(x) log(1 + |x|)"}.one_of(
              names::transforms),
          &S::transform);
    visit(Field{"normalise_by", "sequences: statistics of the whole training part, or of each group's"}.one_of(
              names::normalise_by),
          &S::normalise_by);
    visit(Field{"label_column", "csv: the column that holds the class"}, &S::label_column);
    visit(Field{"group_column", "csv: the column that holds the group; none when empty"}, &S::group_column);
    visit(Field{"fold_column", "csv: the column that holds the fold of folds.kind predefined"}, &S::fold_column);
    visit(Field{"categorical_columns",
                "csv: numeric columns to expand to one feature per category; text columns "
                "are found by themselves"},
          &S::categorical_columns);
    visit(Field{"ignore_columns", "csv: columns to leave out"}, &S::ignore_columns);
    visit(Field{"missing", "csv: a missing value is an error that names its line, or its row is left out"}.one_of(
              names::missing),
          &S::missing);
    visit(Field{"normalisation", "of features, fitted on the training part of each fold alone"}.one_of(
              names::normalisations),
          &S::normalisation);
    visit(Field{"samples", "synthetic, synthetic_sequences: number of samples"}.at_least(1).at_most(100'000'000),
          &S::samples);
    visit(Field{"features", "synthetic, synthetic_sequences: number of features"}.at_least(1).at_most(1'000'000),
          &S::features);
    visit(Field{"classes", "synthetic: number of Gaussian classes; synthetic_sequences: of labels"}.at_least(2).at_most(
              100'000),
          &S::classes);
    visit(Field{"group_count", "synthetic: number of groups; synthetic_sequences: of sessions; 0 for none"}
              .at_least(0)
              .at_most(1'000'000),
          &S::group_count);
    visit(Field{"min_steps", "synthetic_sequences: time steps of the shortest"}.at_least(1).at_most(1'000'000),
          &S::min_steps);
    visit(Field{"max_steps", "synthetic_sequences: time steps of the longest"}.at_least(1).at_most(1'000'000),
          &S::max_steps);
    visit(Field{"mean_steps", "synthetic_sequences: time steps of one on average"}.at_least(1).at_most(1'000'000),
          &S::mean_steps);
    visit(Field{"separation", "synthetic, synthetic_sequences: distance of the class means in standard deviations"}
              .at_least(0),
          &S::separation);
    visit(Field{"seed", "synthetic, synthetic_sequences: seed of the samples"}, &S::seed);
    visit(Field{"shift", "distribution shift of the held-out fold"}, &S::shift);
  }
};

template <>
struct Fields<FoldSpec> {
  template <class V>
  static void visit(V&& visit) {
    using S = FoldSpec;
    visit(Field{"kind", "how the data are split"}.one_of(names::folds).short_form(), &S::kind);
    visit(
        Field{"k", "number of folds; leave_one_group_out and predefined take theirs from the data"}.at_least(2).at_most(
            100'000),
        &S::k);
    visit(Field{"repeats", "how many times the folds are drawn anew"}.at_least(1).at_most(100'000), &S::repeats);
    visit(Field{"seed", "seed of the split"}, &S::seed);
    visit(Field{"validation", "share of each training part that is set aside for early stopping and plateau schedules"}
              .at_least(0)
              .below(1),
          &S::validation);
  }
};

}  // namespace tenfold

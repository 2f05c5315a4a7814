#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "datasets/dataset.h"
#include "datasets/folds.h"
#include "datasets/safetensors.h"
#include "tests/datasets/test_files.h"

namespace tenfold {
namespace {

using test::error_of;
using test::TemporaryFolder;
using testing::ElementsAre;
using testing::HasSubstr;

// Three sequences of 2, 1 and 3 steps of two features.
Dataset::Parts sequence_parts(LabelKind labels = LabelKind::step) {
  Dataset::Parts parts;
  parts.kind = SampleKind::sequence;
  parts.label_kind = labels;
  parts.sample_shape = {2};
  for (int i = 0; i < 12; ++i) parts.samples.push_back(static_cast<float>(i - 3));
  parts.starts = {0, 2, 3};
  parts.lengths = {2, 1, 3};
  parts.labels =
      labels == LabelKind::step ? std::vector<std::int64_t>{0, 1, -1, 1, 1, 0} : std::vector<std::int64_t>{0, 1, 0};
  parts.groups = {0, 1, 1};
  parts.group_names = {"monday", "tuesday"};
  parts.class_names = {"rest", "reach"};
  return parts;
}

Dataset::Parts token_parts() {
  Dataset::Parts parts;
  parts.kind = SampleKind::tokens;
  parts.label_kind = LabelKind::next_token;
  parts.sample_shape = {1};
  parts.tokens = {0, 2, 1, 1, 2, 0, 2};
  parts.starts = {0, 3};  // samples share a token
  parts.lengths = {4, 4};
  parts.class_names = {"a", "b", "c"};
  parts.token_bytes = {1, 1, 2};
  return parts;
}

TEST(SequenceDataset, TellsStepsAndSamples) {
  const Dataset data(sequence_parts());
  EXPECT_EQ(data.size(), 3);
  EXPECT_EQ(data.features(), 2);
  EXPECT_EQ(data.steps(2), 3);
  EXPECT_THAT(data.sample(1), ElementsAre(1, 2));
  EXPECT_THAT(data.sample(2), ElementsAre(3, 4, 5, 6, 7, 8));
  const Dataset tokens(token_parts());
  EXPECT_EQ(tokens.size(), 2);
  EXPECT_EQ(tokens.steps(1), 3);
  EXPECT_EQ(tokens.classes(), 3);
}

TEST(SequenceDataset, CacheHoldsAllOfIt) {
  const TemporaryFolder folder;
  for (const Dataset& data :
       {Dataset(sequence_parts()), Dataset(sequence_parts(LabelKind::sample)), Dataset(token_parts())}) {
    const Dataset read = read_cached_dataset(write_cached_dataset(data, folder.path()));
    EXPECT_EQ(read.kind(), data.kind());
    EXPECT_EQ(read.label_kind(), data.label_kind());
    EXPECT_EQ(read.sample_shape(), data.sample_shape());
    const auto same = [](const auto& a, const auto& b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); };
    EXPECT_TRUE(same(read.samples(), data.samples()));
    EXPECT_TRUE(same(read.labels(), data.labels()));
    EXPECT_TRUE(same(read.groups(), data.groups()));
    EXPECT_TRUE(same(read.starts(), data.starts()));
    EXPECT_TRUE(same(read.lengths(), data.lengths()));
    EXPECT_TRUE(same(read.tokens(), data.tokens()));
    EXPECT_TRUE(same(read.token_bytes(), data.token_bytes()));
    EXPECT_EQ(read.class_names(), data.class_names());
    EXPECT_EQ(read.group_names(), data.group_names());
    EXPECT_EQ(read.fingerprint(), data.fingerprint());
  }
}

TEST(SequenceDataset, FingerprintIsOfEveryField) {
  std::vector<Digest> seen = {Dataset(sequence_parts()).fingerprint(), Dataset(token_parts()).fingerprint()};
  const auto is_new = [&](const Dataset& data) {
    EXPECT_THAT(seen, testing::Not(testing::Contains(data.fingerprint())));
    seen.push_back(data.fingerprint());
  };
  is_new(Dataset(sequence_parts(LabelKind::sample)));
  auto changed = [&](Dataset::Parts parts, auto change) {
    change(parts);
    is_new(Dataset(std::move(parts)));
  };
  changed(sequence_parts(), [](auto& p) {
    p.lengths = {1, 2, 3};
    p.starts = {0, 1, 3};
  });
  changed(sequence_parts(), [](auto& p) { p.starts = {0, 1, 3}; });
  changed(sequence_parts(), [](auto& p) { p.labels[2] = 0; });
  changed(sequence_parts(), [](auto& p) { p.samples[2] = 7; });
  changed(token_parts(), [](auto& p) { p.tokens[6] = 1; });
  changed(token_parts(), [](auto& p) { p.token_bytes = {1, 1, 1}; });
  changed(token_parts(), [](auto& p) { p.starts = {1, 3}; });
}

TEST(SequenceDataset, RefusesWhatDoesNotFit) {
  const auto told = [](Dataset::Parts parts, auto change) {
    change(parts);
    return error_of(ErrorKind::data, [&] { Dataset made(std::move(parts)); });
  };
  EXPECT_THAT(told(sequence_parts(), [](auto& p) { p.lengths[2] = 4; }),
              HasSubstr("sample 2 lies outside the 6 steps"));
  EXPECT_THAT(told(sequence_parts(), [](auto& p) { p.starts[0] = -1; }), HasSubstr("outside"));
  EXPECT_THAT(told(sequence_parts(), [](auto& p) { p.lengths[1] = INT64_MAX; }), HasSubstr("outside"));
  EXPECT_THAT(told(sequence_parts(), [](auto& p) { p.lengths[1] = 0; }), HasSubstr("length 0"));
  EXPECT_THAT(told(sequence_parts(), [](auto& p) { p.lengths.pop_back(); }), HasSubstr("2 lengths for 3"));
  EXPECT_THAT(told(sequence_parts(), [](auto& p) { p.labels.pop_back(); }), HasSubstr("5 labels for 6 steps"));
  EXPECT_THAT(told(sequence_parts(), [](auto& p) { p.labels[0] = -2; }), HasSubstr("label -2"));
  EXPECT_THAT(told(sequence_parts(LabelKind::sample), [](auto& p) { p.labels[0] = -1; }), HasSubstr("label -1"));
  EXPECT_THAT(told(sequence_parts(), [](auto& p) { p.samples.pop_back(); }), HasSubstr("not whole steps"));
  EXPECT_THAT(told(sequence_parts(), [](auto& p) { p.group_names.pop_back(); }), HasSubstr("group 1"));
  EXPECT_THAT(told(sequence_parts(), [](auto& p) { p.tokens = {0}; }), HasSubstr("no tokens"));
  EXPECT_THAT(told(token_parts(), [](auto& p) { p.tokens[1] = 3; }), HasSubstr("token 1 (from 0) is 3"));
  EXPECT_THAT(told(token_parts(), [](auto& p) { p.lengths[0] = 1; }), HasSubstr("at least 2"));
  EXPECT_THAT(told(token_parts(), [](auto& p) { p.token_bytes.pop_back(); }), HasSubstr("2 token sizes"));
  EXPECT_THAT(told(token_parts(), [](auto& p) { p.label_kind = LabelKind::sample; }), HasSubstr("labels"));
}

TEST(SequenceDataset, CacheThatIsNoneOfOursIsRefused) {
  const TemporaryFolder folder;
  const std::vector<float> values(6, 1.0f);
  const std::vector<std::int64_t> runs = {0, 1}, lengths = {1, 2};
  const auto told = [&](std::map<std::string, std::string> metadata, std::vector<std::int64_t> shape) {
    const auto file = folder / "x.safetensors";
    metadata["class_names"] = R"(["a","b"])";
    write_safetensors(file,
                      {{"samples", {"F32", {3, 2}, std::as_bytes(std::span(values))}},
                       {"labels", {"I64", shape, std::as_bytes(std::span(runs))}},
                       {"starts", {"I64", shape, std::as_bytes(std::span(runs))}},
                       {"lengths", {"I64", {2}, std::as_bytes(std::span(lengths))}}},
                      metadata, false);
    return error_of(ErrorKind::data, [&] { read_cached_dataset(file); });
  };
  EXPECT_THAT(told({{"kind", "sequence"}, {"label_kind", "sample"}}, {2}), HasSubstr("fingerprint"));
  EXPECT_THAT(told({{"kind", "stream"}}, {2}), HasSubstr("kind 'stream' is not known"));
  EXPECT_THAT(told({{"kind", "sequence"}, {"label_kind", "word"}}, {2}), HasSubstr("label_kind 'word'"));
  EXPECT_THAT(told({{"kind", "sequence"}, {"label_kind", "step"}}, {2}), HasSubstr("2 labels for 3 steps"));
  EXPECT_THAT(told({{"kind", "sequence"}}, {2, 1}), HasSubstr("not a list"));
  EXPECT_THAT(told({{"kind", "sequence"}, {"group_names", "[1]"}}, {2}), HasSubstr("group_names are damaged"));
  EXPECT_THAT(told({}, {2}), HasSubstr("2 samples"));
}

TEST(SequenceFolds, DivideWithoutClassesOfSamples) {
  auto parts = sequence_parts();
  parts.starts.assign(20, 0);
  parts.lengths.assign(20, 2);
  parts.groups.clear();
  for (int i = 0; i < 20; ++i) parts.groups.push_back(i % 5);
  parts.group_names.clear();
  const Dataset data(std::move(parts));
  for (const char* kind : {"kfold", "group", "leave_one_group_out"}) {
    FoldSpec spec;
    spec.kind = kind;
    spec.k = 4;
    spec.repeats = 2;
    spec.validation = 0.25;
    const auto splits = make_splits(data, spec);
    std::vector<int> held_out(20, 0);
    for (const Split& split : splits) {
      EXPECT_EQ(split.train.size() + split.validation.size() + split.test.size(), 20u) << kind;
      EXPECT_FALSE(split.train.empty() || split.validation.empty() || split.test.empty()) << kind;
      for (const std::int64_t i : split.test) ++held_out[static_cast<std::size_t>(i)];
    }
    EXPECT_THAT(held_out, testing::Each(2)) << kind;
    const DatasetSummary summary = summarise(data, splits);
    std::int64_t largest = 0;
    for (const SplitSummary& split : summary.splits) largest = std::max(largest, split.train_n);
    for (const SplitSummary& split : summary.splits) EXPECT_EQ(split.epoch_n, largest);
  }
  for (const char* kind : {"stratified", "repeated", "stratified_group", "held_out_class"}) {
    FoldSpec spec;
    spec.kind = kind;
    EXPECT_THAT(error_of(ErrorKind::config, [&] { make_splits(data, spec); }),
                testing::AllOf(HasSubstr(kind), HasSubstr("each time step has one"), HasSubstr("kfold"),
                               HasSubstr("leave_one_group_out")));
  }
}

TEST(SequenceFolds, SummaryTellsStepsAndValues) {
  const Dataset data(sequence_parts());
  FoldSpec spec;
  spec.kind = "kfold";
  spec.k = 2;
  const DatasetSummary summary = summarise(data, make_splits(data, spec));
  EXPECT_EQ(summary.kind, SampleKind::sequence);
  EXPECT_EQ(summary.label_kind, LabelKind::step);
  EXPECT_EQ(summary.steps, 6);
  EXPECT_EQ(summary.shortest, 1);
  EXPECT_EQ(summary.longest, 3);
  EXPECT_EQ(summary.smallest_value, -3);
  EXPECT_EQ(summary.largest_value, 8);
  const Dataset tokens(token_parts());
  const DatasetSummary of_tokens = summarise(tokens, make_splits(tokens, spec));
  EXPECT_EQ(of_tokens.steps, 6);
  EXPECT_EQ(of_tokens.longest, 3);
  EXPECT_EQ(of_tokens.largest_value, 0);
  EXPECT_EQ(of_tokens.classes, 3);
}

}  // namespace
}  // namespace tenfold

#include "tests/trainer/array_harness.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "datasets/dataset.h"
#include "experiments/metric.h"

namespace tenfold::testing {
namespace {

template <class Row>
void append(std::vector<Row>& to, std::span<const Row> rows) {
  to.insert(to.end(), rows.begin(), rows.end());
}

}  // namespace

void Recorder::rows(std::uint32_t member, std::span<const TrainStepRow> rows) {
  append(members[member].train_steps, rows);
}
void Recorder::rows(std::uint32_t member, std::span<const TttStepRow> rows) { append(members[member].ttt_steps, rows); }
void Recorder::rows(std::uint32_t member, std::span<const EvaluationRow> rows) {
  append(members[member].evaluations, rows);
}
void Recorder::rows(std::uint32_t member, std::span<const InnerLossRow> rows) {
  append(members[member].inner_losses, rows);
}
void Recorder::rows(std::uint32_t member, std::span<const GateRow> rows) { append(members[member].gates, rows); }
void Recorder::rows(std::uint32_t member, std::span<const PositionLossRow> rows) {
  append(members[member].position_losses, rows);
}
void Recorder::rows(std::uint32_t member, std::span<const GroupStepRow> rows) {
  append(members[member].group_steps, rows);
}
void Recorder::rows(std::uint32_t member, std::span<const PairScoreRow> rows) {
  append(members[member].pair_scores, rows);
}
void Recorder::progress(const Progress&) {}

double Recorder::metric(std::size_t member, Phase phase, const std::string& name) const {
  double value = std::numeric_limits<double>::quiet_NaN();
  for (const EvaluationRow& row : members.at(member).evaluations)
    if (row.phase == phase && row.metric == metric_index(name)) value = row.value;
  return value;
}

Workspace::Workspace() {
  std::string pattern = (std::filesystem::temp_directory_path() / "tenfold-array-XXXXXX").string();
  folder_ = mkdtemp(pattern.data());
}

Workspace::~Workspace() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

ArrayJob Workspace::job(Stage stage, const std::vector<Case>& cases, const std::string& name) const {
  ArrayJob job;
  job.stage = stage;
  const Dataset dataset = load_dataset(cases.front().spec.dataset);
  write_cached_dataset(dataset, folder_ / "cache");
  job.fingerprint = dataset.fingerprint().hex();
  job.cache_folder = (folder_ / "cache").string();
  job.checkpoint_folder = (folder_ / "checkpoints").string();
  job.array = name;
  for (const Case& one : cases) {
    JobMember member;
    member.unit = static_cast<std::int64_t>(job.members.size()) + 1;
    member.configuration = static_cast<std::int32_t>(job.configurations.size());
    member.repeat = one.repeat;
    member.fold = one.fold;
    member.resume = one.resume;
    member.fit = one.fit;
    member.rate_scale = one.rate_scale;
    job.configurations.push_back(to_json(one.spec).dump());
    job.members.push_back(member);
  }
  return job;
}

CheckpointRef newest(const Recorder& recorder, std::int64_t member) {
  for (auto notice = recorder.checkpoints.rbegin(); notice != recorder.checkpoints.rend(); ++notice)
    for (std::size_t i = 0; i < notice->members.size(); ++i)
      if (notice->members[i] == member)
        return {notice->path, static_cast<std::int64_t>(i), notice->step, notice->sha256};
  throw std::runtime_error("no checkpoint of member " + std::to_string(member));
}

void expect_equal(const Recorder::Member& a, const Recorder::Member& b) {
  EXPECT_TRUE(same_bits(without_times(a.train_steps), without_times(b.train_steps)));
  EXPECT_TRUE(same_bits(without_times(a.ttt_steps), without_times(b.ttt_steps)));
  EXPECT_TRUE(same_bits(a.evaluations, b.evaluations));
  EXPECT_TRUE(same_bits(a.inner_losses, b.inner_losses));
  EXPECT_TRUE(same_bits(a.gates, b.gates));
  EXPECT_TRUE(same_bits(a.position_losses, b.position_losses));
  EXPECT_TRUE(same_bits(a.group_steps, b.group_steps));
  EXPECT_TRUE(same_bits(a.pair_scores, b.pair_scores));
  EXPECT_EQ(a.outcome.status, b.outcome.status);
  EXPECT_EQ(a.outcome.reason, b.outcome.reason);
  EXPECT_EQ(a.outcome.nonfinite, b.outcome.nonfinite);
  EXPECT_EQ(a.outcome.retry, b.outcome.retry);
  EXPECT_EQ(a.outcome.steps, b.outcome.steps);
}

Recorder::Member joined(const Recorder::Member& first, const Recorder::Member& rest) {
  Recorder::Member both = rest;
  both.train_steps = first.train_steps;
  both.ttt_steps = first.ttt_steps;
  both.evaluations = first.evaluations;
  both.inner_losses = first.inner_losses;
  both.gates = first.gates;
  both.position_losses = first.position_losses;
  both.group_steps = first.group_steps;
  both.pair_scores = first.pair_scores;
  append<TrainStepRow>(both.train_steps, rest.train_steps);
  append<TttStepRow>(both.ttt_steps, rest.ttt_steps);
  append<EvaluationRow>(both.evaluations, rest.evaluations);
  append<InnerLossRow>(both.inner_losses, rest.inner_losses);
  append<GateRow>(both.gates, rest.gates);
  append<PositionLossRow>(both.position_losses, rest.position_losses);
  append<GroupStepRow>(both.group_steps, rest.group_steps);
  append<PairScoreRow>(both.pair_scores, rest.pair_scores);
  return both;
}

Engine& engine() {
  static Engine cpu("cpu", 1);
  return cpu;
}

Recorder run(const Workspace& space, Stage stage, const std::vector<Case>& cases, const std::string& name,
             int drain_after) {
  Recorder recorder;
  recorder.drain_after = drain_after;
  engine().run(space.job(stage, cases, name), recorder);
  return recorder;
}

Fits fit(const Workspace& space, const ExperimentSpec& spec, int folds, const std::string& name) {
  Fits fits;
  std::vector<Case> cases;
  for (int fold = 0; fold < folds; ++fold) cases.push_back({spec, 0, fold, {}, {}});
  fits.recorder = run(space, Stage::fit, cases, name);
  for (int fold = 0; fold < folds; ++fold) fits.last.push_back(newest(fits.recorder, fold));
  return fits;
}

void expect_resumes_anywhere(const Workspace& space, Stage stage, const std::vector<Case>& cases) {
  const Recorder whole = run(space, stage, cases, "whole");
  int resumed = 0;
  for (int looks = 0;; ++looks) {
    const Recorder first = run(space, stage, cases, "first", looks);
    std::vector<Case> left;
    std::vector<std::size_t> places;
    for (std::size_t k = 0; k < cases.size(); ++k) {
      if (first.members.at(k).outcome.status != TrialStatus::stopped) continue;
      left.push_back(cases[k]);
      places.push_back(k);
    }
    if (left.empty()) break;
    if (first.checkpoints.empty()) continue;
    ++resumed;
    for (std::size_t i = 0; i < left.size(); ++i) left[i].resume = newest(first, static_cast<std::int64_t>(places[i]));
    SCOPED_TRACE("a drain at look " + std::to_string(looks) + ", step " + std::to_string(left.front().resume->step));
    const Recorder rest = run(space, stage, left, "rest");
    for (std::size_t k = 0, i = 0; k < cases.size(); ++k) {
      const bool over = i == places.size() || places[i] != k;
      expect_equal(whole.members.at(k), over ? first.members.at(k) : joined(first.members.at(k), rest.members.at(i++)));
    }
  }
  EXPECT_GT(resumed, 0);
}

ExperimentSpec spec_from_yaml(const std::string& text) { return Experiment::parse(text, "test.yaml").resolve(0); }

ExperimentSpec small_spec(const std::string& more) {
  return spec_from_yaml(
      "name: small\n"
      "dataset: {kind: synthetic, samples: 230, features: 7, classes: 3, separation: 4, seed: 5, shift: {kind: "
      "gaussian_noise, severity: 5}}\n"
      "folds: {kind: stratified, k: 4}\n"
      "model: {kind: mlp, hidden: [12], norm: layer, dropout: 0.2}\n"
      "train: {epochs: 3, batch_size: 16, optimizer: {kind: adamw, lr: 0.01}}\n" +
      (more.empty() ? "ttt: {steps: 4, batch_size: 16, lr: 0.01}\n" : more));
}

}  // namespace tenfold::testing

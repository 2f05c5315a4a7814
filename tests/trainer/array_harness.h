#pragma once

#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "experiments/experiment.h"
#include "trainer/engine.h"
#include "trainer/reporter.h"

namespace tenfold::testing {

// Everything an array reports, by member.
class Recorder final : public Reporter {
 public:
  struct Member {
    std::vector<TrainStepRow> train_steps;
    std::vector<TttStepRow> ttt_steps;
    std::vector<EvaluationRow> evaluations;
    std::vector<InnerLossRow> inner_losses;
    std::vector<GateRow> gates;
    std::vector<PositionLossRow> position_losses;
    std::vector<GroupStepRow> group_steps;
    std::vector<PairScoreRow> pair_scores;
    MemberOutcome outcome;
  };
  void rows(std::uint32_t member, std::span<const TrainStepRow> rows) override;
  void rows(std::uint32_t member, std::span<const TttStepRow> rows) override;
  void rows(std::uint32_t member, std::span<const EvaluationRow> rows) override;
  void rows(std::uint32_t member, std::span<const InnerLossRow> rows) override;
  void rows(std::uint32_t member, std::span<const GateRow> rows) override;
  void rows(std::uint32_t member, std::span<const PositionLossRow> rows) override;
  void rows(std::uint32_t member, std::span<const GroupStepRow> rows) override;
  void rows(std::uint32_t member, std::span<const PairScoreRow> rows) override;
  void checkpoint(const CheckpointNotice& notice) override { checkpoints.push_back(notice); }
  void outcome(const MemberOutcome& outcome) override {
    members[static_cast<std::size_t>(outcome.member)].outcome = outcome;
  }
  void progress(const Progress& progress) override;
  bool drain_requested() override { return drain_after >= 0 && looks++ >= drain_after; }
  double metric(std::size_t member, Phase phase, const std::string& name) const;  // the latest

  std::map<std::size_t, Member> members;
  std::vector<CheckpointNotice> checkpoints;
  int drain_after = -1;  // looks until a drain; -1: never
  int looks = 0;
};

// One configuration on one fold, for a job of any size.
struct Case {
  ExperimentSpec spec;
  int repeat = 0;
  int fold = 0;
  std::optional<CheckpointRef> resume, fit;
  double rate_scale = 1;
};

// A folder for caches and checkpoints that goes with the object.
class Workspace {
 public:
  Workspace();
  ~Workspace();
  // The dataset of all cases must be one. `name` is the array's, for its files.
  ArrayJob job(Stage stage, const std::vector<Case>& cases, const std::string& name) const;
  const std::filesystem::path& folder() const { return folder_; }

 private:
  std::filesystem::path folder_;
};

// Rows but for their times, as bytes: bit for bit.
template <class Row>
std::vector<Row> without_times(std::vector<Row> rows) {
  for (Row& row : rows) row.wall_s = 0;
  return rows;
}

template <class Row>
bool same_bits(const std::vector<Row>& a, const std::vector<Row>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(Row)) == 0;
}

// Rows but for their times, and how it ended.
void expect_equal(const Recorder::Member& a, const Recorder::Member& b);

// What was reported before an interruption and after it, as one.
Recorder::Member joined(const Recorder::Member& first, const Recorder::Member& rest);

Engine& engine();  // one CPU engine for all tests
Recorder run(const Workspace& space, Stage stage, const std::vector<Case>& cases, const std::string& name,
             int drain_after = -1);

// Fits of folds 0..n-1 of `spec`, and the parameters that trials start from.
struct Fits {
  Recorder recorder;
  std::vector<CheckpointRef> last;
};
Fits fit(const Workspace& space, const ExperimentSpec& spec, int folds, const std::string& name);

// The newest checkpoint of a member.
CheckpointRef newest(const Recorder& recorder, std::int64_t member);

// A drain at each instant at which a trainer looks for one, and another run that goes on: nothing is missing, nothing
// twice, and it ends for the same reason.
void expect_resumes_anywhere(const Workspace& space, Stage stage, const std::vector<Case>& cases);

ExperimentSpec spec_from_yaml(const std::string& text);  // resolved, of a file without a sweep

// Small and fast: Gaussian classes, an mlp of one hidden layer.
ExperimentSpec small_spec(const std::string& more = "");

}  // namespace tenfold::testing

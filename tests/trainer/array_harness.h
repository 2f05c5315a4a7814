#pragma once

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
    MemberOutcome outcome;
  };
  void rows(std::uint32_t member, std::span<const TrainStepRow> rows) override;
  void rows(std::uint32_t member, std::span<const TttStepRow> rows) override;
  void rows(std::uint32_t member, std::span<const EvaluationRow> rows) override;
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

// Member `index` of the newest checkpoint.
CheckpointRef newest(const Recorder& recorder, std::int64_t index);

ExperimentSpec spec_from_yaml(const std::string& text);  // resolved, of a file without a sweep

// Small and fast: Gaussian classes, an mlp of one hidden layer.
ExperimentSpec small_spec(const std::string& more = "");

}  // namespace tenfold::testing

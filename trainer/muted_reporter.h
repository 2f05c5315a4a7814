#pragma once

#include "trainer/reporter.h"

namespace tenfold {

// What a rank reports that does not lead its group: that it computes, and nothing else. When to stop is the leader's.
class MutedReporter final : public Reporter {
 public:
  explicit MutedReporter(Reporter& reporter) : reporter_(reporter) {}
  void rows(std::uint32_t, std::span<const TrainStepRow>) override {}
  void rows(std::uint32_t, std::span<const TttStepRow>) override {}
  void rows(std::uint32_t, std::span<const EvaluationRow>) override {}
  void rows(std::uint32_t, std::span<const InnerLossRow>) override {}
  void rows(std::uint32_t, std::span<const GateRow>) override {}
  void rows(std::uint32_t, std::span<const PositionLossRow>) override {}
  void rows(std::uint32_t, std::span<const GroupStepRow>) override {}
  void rows(std::uint32_t, std::span<const PairScoreRow>) override {}
  void checkpoint(const CheckpointNotice&) override {}
  void outcome(const MemberOutcome&) override {}
  void progress(const Progress& progress) override { reporter_.progress(progress); }
  bool drain_requested() override { return false; }

 private:
  Reporter& reporter_;
};

}  // namespace tenfold

#pragma once

#include "trainer/reporter.h"

namespace tenfold {

// Tells nobody anything and never stops: for reporters that are interested in a part.
class SilentReporter : public Reporter {
 public:
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
  void progress(const Progress&) override {}
  bool drain_requested() override { return false; }
};

}  // namespace tenfold

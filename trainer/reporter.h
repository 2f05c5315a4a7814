#pragma once

#include <span>

#include "experiments/pair_score.h"
#include "experiments/records.h"
#include "trainer/protocol.h"

namespace tenfold {

// Where a running array reports to: the session with the worker (session.h), or a test. Called from the
// computing thread alone; what is reported first is committed first.
class Reporter {
 public:
  virtual ~Reporter() = default;
  virtual void rows(std::uint32_t member, std::span<const TrainStepRow> rows) = 0;
  virtual void rows(std::uint32_t member, std::span<const TttStepRow> rows) = 0;
  virtual void rows(std::uint32_t member, std::span<const EvaluationRow> rows) = 0;
  virtual void rows(std::uint32_t member, std::span<const InnerLossRow> rows) = 0;
  virtual void rows(std::uint32_t member, std::span<const GateRow> rows) = 0;
  virtual void rows(std::uint32_t member, std::span<const PositionLossRow> rows) = 0;
  virtual void rows(std::uint32_t member, std::span<const GroupStepRow> rows) = 0;
  virtual void rows(std::uint32_t member, std::span<const PairScoreRow> rows) = 0;
  virtual void checkpoint(const CheckpointNotice& notice) = 0;  // the file is durable already
  virtual void outcome(const MemberOutcome& outcome) = 0;
  virtual void progress(const Progress& progress) = 0;  // cheap: kept for the next heartbeat
  virtual bool drain_requested() = 0;                   // asked at every step boundary
};

}  // namespace tenfold

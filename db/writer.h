#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "db/store.h"

namespace tenfold {

struct AddTrainSteps {
  RowId fit;
  std::vector<TrainStepRow> rows;
};
struct AddTttSteps {
  RowId trial;
  std::vector<TttStepRow> rows;
};
struct AddEvaluations {
  UnitKind kind;
  RowId unit;
  std::vector<EvaluationRow> rows;
};
struct AddInnerLosses {
  UnitKind kind;
  RowId unit;
  std::vector<InnerLossRow> rows;
};
struct AddGates {
  UnitKind kind;
  RowId unit;
  std::vector<GateRow> rows;
};
struct AddPositionLosses {
  UnitKind kind;
  RowId unit;
  std::vector<PositionLossRow> rows;
};
struct AddGroupSteps {
  RowId fit;
  std::vector<GroupStepRow> rows;
};
struct AddPairScores {
  RowId trial;
  std::vector<PairScoreRow> rows;
};
struct AddEvent {
  std::optional<RowId> trial;
  std::string kind, detail;
};
// The attempt's row id is needed by later commands before the writer has made it, so the submitter names it
// by a key of its own; CheckpointRecord::attempt and AttemptEnd::attempt carry that key.
struct BeginAttempt {
  std::uint64_t key;
  AttemptStart start;
};

using StoreCommand =
    std::variant<BeginAttempt, AddTrainSteps, AddTttSteps, AddEvaluations, AddInnerLosses, AddGates, AddPositionLosses,
                 AddGroupSteps, AddPairScores, AddEvent, CheckpointRecord, AttemptEnd>;

// The store's one thread. Commands are applied in the order of submission, many in one transaction (FULL
// durability is paid once per commit); superseded checkpoint files are deleted after the commit that made them so.
class StoreWriter {
 public:
  // home: of a store that may be published; it must outlive the writer.
  explicit StoreWriter(Store store, StoreHome* home = nullptr);
  ~StoreWriter();  // commits (and publishes) what was submitted; errors are lost here: call flush() first
  // Returns the command's ticket, from 1. Throws the writer's Error when an earlier command failed.
  std::uint64_t submit(StoreCommand command);
  std::uint64_t committed() const;           // every ticket up to this one is durable
  std::size_t queued_bytes() const;          // for back-pressure
  void flush();                              // until everything submitted is durable, and published where stores are
  std::vector<std::string> take_problems();  // of publishing, since the last call

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tenfold

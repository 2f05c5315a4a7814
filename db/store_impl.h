#pragma once

#include <memory>
#include <string>
#include <vector>

#include "db/sqlite.h"
#include "db/store.h"
#include "db/store_rows.h"

namespace tenfold {

// Prepared once: the statements of the running sweep.
struct StoreStatements {
  explicit StoreStatements(Connection& connection);
  Statement insert_attempt, end_attempt, attempt_unit;
  Statement fit_status, trial_status;
  Statement copy_fit_evaluation, copy_to_done_trials, trial_fit, open_trial_of_fit, fail_trials_of_fit, done_fit;
  Statement checkpoints_of_fit, checkpoints_of_trial, insert_checkpoint, delete_checkpoint, path_in_use;
  Statement insert_event;
};

struct Store::Impl {
  Impl(const std::filesystem::path& db, const std::filesystem::path& live);

  std::filesystem::path db;  // as the user named it; checkpoints are beside it
  Connection connection;
  std::unique_ptr<StoreStatements> statements;
  std::unique_ptr<StoreRows> rows;
  bool in_transaction = false;
  std::string now;                         // of the transaction: one clock reading for all its rows
  std::vector<std::string> dropped_paths;  // in this transaction; may still be used by other rows
  std::vector<std::string> superseded;     // since take_superseded_checkpoints

  void require_transaction(const char* what) const;
  void set_status(UnitKind kind, RowId unit, TrialStatus status, const std::string& reason);
  void end_what_a_kill_left();

  // lowered_rates.cpp
  void set_rate(UnitKind kind, RowId unit, const LoweredRate& rate);
  void load_rates(RegisteredPlan& plan);

  // checkpoints.cpp
  struct CheckpointRow {
    RowId id;
    std::int64_t step;
    bool history;
    std::string path;
  };
  std::vector<CheckpointRow> checkpoint_rows(UnitKind kind, RowId unit);  // newest first
  void drop_checkpoint(const CheckpointRow& row);
  void drop_checkpoints_after(UnitKind kind, RowId unit, std::int64_t step);
  void retire_checkpoints(UnitKind kind, RowId unit, TrialStatus status);
  void note_superseded();
  std::vector<StoredCheckpoint> stored_checkpoints(UnitKind kind, RowId unit);
};

}  // namespace tenfold

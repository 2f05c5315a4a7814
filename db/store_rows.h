#pragma once

#include <cstdint>

#include "db/sqlite.h"
#include "db/store.h"

namespace tenfold {

// Rows of one INSERT: starting a statement costs as much as several rows.
inline constexpr int kRowsAtOnce = 32;

// One table of rows of fits or trials, its statements prepared once. The first column is the unit.
struct RowTable {
  RowTable(Connection& connection, const char* table, const char* columns, int values);
  const int values;  // a row's, without the unit
  Statement one, many;
  Statement rewind;  // what came after a step
};

// All of them: what a running unit writes, and what is taken back when it resumes from a checkpoint.
struct StoreRows {
  explicit StoreRows(Connection& connection);
  RowTable train, fit_evaluation, fit_inner_loss, fit_gate, fit_position_loss, group_step;
  RowTable ttt, evaluation, trial_inner_loss, trial_gate, trial_position_loss, pair_score;

  void rewind(UnitKind kind, RowId unit, std::int64_t step);  // deletes the unit's rows of later steps
};

}  // namespace tenfold

#include "db/store_rows.h"

#include <string>

#include "db/store_impl.h"
#include "experiments/metric.h"

namespace tenfold {
namespace {

constexpr unsigned kPersistent = SQLITE_PREPARE_PERSISTENT;

constexpr const char* kTrainColumns = "fit, step, epoch, loss, lr, grad_norm, wall_s";
constexpr const char* kTttColumns =
    "trial, step, total, entropy, diversity, diversity_weight, class_entropy, classes_predicted, max_class_share, "
    "grad_norm, lr, wall_s";
constexpr const char* kGroupColumns = "fit, step, parameter_group, grad_norm, update_norm";

// ?1 is the unit of all rows; `values` parameters a row follow. Steps are computed once. What is measured at the end of
// a unit may belong to a step before its last checkpoint: a run that goes on from there measures it again.
std::string insert_rows(const char* table, const char* columns, int values, int rows) {
  const bool of_steps = columns == kTrainColumns || columns == kTttColumns || columns == kGroupColumns;
  std::string sql =
      std::string(of_steps ? "INSERT INTO " : "INSERT OR REPLACE INTO ") + table + "(" + columns + ") VALUES";
  int parameter = 2;
  for (int row = 0; row < rows; ++row) {
    sql += row == 0 ? "(?1" : ", (?1";
    for (int i = 0; i < values; ++i) sql += ", ?" + std::to_string(parameter++);
    sql += ")";
  }
  return sql;
}

std::string delete_later(const char* table, const char* columns) {
  const std::string unit = std::string(columns).substr(0, std::string(columns).find(','));
  return std::string("DELETE FROM ") + table + " WHERE " + unit + " = ?1 AND step > ?2";
}

// NULL for NaN is SQLite's own rule; -1 is records.h's "does not count".
void bind_count(Statement& statement, int index, std::int64_t count) {
  if (count < 0)
    statement.bind_null(index);
  else
    statement.bind(index, count);
}

void bind_row(Statement& insert, int at, const TrainStepRow& row) {
  insert.bind(at, row.step).bind(at + 1, row.epoch).bind(at + 2, row.loss).bind(at + 3, row.lr);
  insert.bind(at + 4, row.grad_norm).bind(at + 5, row.wall_s);
}

void bind_row(Statement& insert, int at, const TttStepRow& row) {
  insert.bind(at, row.step).bind(at + 1, row.total).bind(at + 2, row.entropy).bind(at + 3, row.diversity);
  insert.bind(at + 4, row.diversity_weight).bind(at + 5, row.class_entropy).bind(at + 6, row.classes_predicted);
  insert.bind(at + 7, row.max_class_share).bind(at + 8, row.grad_norm).bind(at + 9, row.lr).bind(at + 10, row.wall_s);
}

void bind_row(Statement& insert, int at, const EvaluationRow& row) {
  const auto known = metrics();
  if (row.metric < 0 || static_cast<std::size_t>(row.metric) >= known.size())
    throw Error(ErrorKind::internal,
                "an evaluation row names metric " + std::to_string(row.metric) + ", which this program does not have");
  insert.bind(at, to_string(row.phase)).bind(at + 1, row.step).bind(at + 2, known[row.metric].name);
  insert.bind(at + 3, row.value);
  bind_count(insert, at + 4, row.hits);
  bind_count(insert, at + 5, row.total);
}

void bind_row(Statement& insert, int at, const InnerLossRow& row) {
  insert.bind(at, to_string(row.phase)).bind(at + 1, row.step).bind(at + 2, std::int64_t{row.layer});
  insert.bind(at + 3, row.position).bind(at + 4, row.l0).bind(at + 5, row.lprev).bind(at + 6, row.lafter);
}

void bind_row(Statement& insert, int at, const GateRow& row) {
  insert.bind(at, row.step).bind(at + 1, std::int64_t{row.layer});
  insert.bind(at + 2, row.mean_tanh).bind(at + 3, row.min_tanh).bind(at + 4, row.max_tanh);
}

void bind_row(Statement& insert, int at, const PositionLossRow& row) {
  insert.bind(at, to_string(row.phase)).bind(at + 1, row.step).bind(at + 2, row.position);
  insert.bind(at + 3, std::int64_t{row.codebook}).bind(at + 4, row.loss).bind(at + 5, row.weight);
}

void bind_row(Statement& insert, int at, const GroupStepRow& row) {
  insert.bind(at, row.step).bind(at + 1, to_string(static_cast<ParameterGroup>(row.group)));
  insert.bind(at + 2, row.grad_norm).bind(at + 3, row.update_norm);
}

void bind_row(Statement& insert, int at, const PairScoreRow& row) {
  insert.bind(at, to_string(row.phase)).bind(at + 1, row.step).bind(at + 2, row.task).bind(at + 3, row.score);
  insert.bind(at + 4, row.low).bind(at + 5, row.high).bind(at + 6, row.hits).bind(at + 7, row.ties);
  insert.bind(at + 8, row.undefined).bind(at + 9, row.total);
}

template <class Row>
void insert_all(RowTable& table, RowId unit, std::span<const Row> rows) {
  table.many.bind(1, unit);
  for (; rows.size() >= kRowsAtOnce; rows = rows.subspan(kRowsAtOnce)) {
    for (int i = 0; i < kRowsAtOnce; ++i) bind_row(table.many, 2 + i * table.values, rows[i]);
    table.many.run();
  }
  table.one.bind(1, unit);
  for (const Row& row : rows) {
    bind_row(table.one, 2, row);
    table.one.run();
  }
}

constexpr const char* kInnerLossColumns[] = {"fit, phase, step, layer, position, l0, lprev, lafter",
                                             "trial, phase, step, layer, position, l0, lprev, lafter"};
constexpr const char* kEvaluationColumns[] = {"fit, phase, step, metric, value, hits, total",
                                              "trial, phase, step, metric, value, hits, total"};
constexpr const char* kGateColumns[] = {"fit, step, layer, mean_tanh, min_tanh, max_tanh",
                                        "trial, step, layer, mean_tanh, min_tanh, max_tanh"};
constexpr const char* kPositionLossColumns[] = {"fit, phase, step, position, codebook, loss, weight",
                                                "trial, phase, step, position, codebook, loss, weight"};
constexpr const char* kPairScoreColumns = "trial, phase, step, task, score, low, high, hits, ties, undefined, total";

}  // namespace

RowTable::RowTable(Connection& c, const char* table, const char* columns, int row_values)
    : values(row_values),
      one(c, insert_rows(table, columns, row_values, 1), kPersistent),
      many(c, insert_rows(table, columns, row_values, kRowsAtOnce), kPersistent),
      rewind(c, delete_later(table, columns), kPersistent) {}

StoreRows::StoreRows(Connection& c)
    : train(c, "train_step", kTrainColumns, 6),
      fit_evaluation(c, "fit_evaluation", kEvaluationColumns[0], 6),
      fit_inner_loss(c, "fit_inner_loss", kInnerLossColumns[0], 7),
      fit_gate(c, "fit_gate", kGateColumns[0], 5),
      fit_position_loss(c, "fit_position_loss", kPositionLossColumns[0], 6),
      group_step(c, "parameter_group_step", kGroupColumns, 4),
      ttt(c, "ttt_step", kTttColumns, 11),
      evaluation(c, "evaluation", kEvaluationColumns[1], 6),
      trial_inner_loss(c, "trial_inner_loss", kInnerLossColumns[1], 7),
      trial_gate(c, "trial_gate", kGateColumns[1], 5),
      trial_position_loss(c, "trial_position_loss", kPositionLossColumns[1], 6),
      pair_score(c, "minimal_pairs", kPairScoreColumns, 10) {}

void StoreRows::rewind(UnitKind kind, RowId unit, std::int64_t step) {
  RowTable* const of_fit[] = {&train, &fit_evaluation, &fit_inner_loss, &fit_gate, &fit_position_loss, &group_step};
  RowTable* const of_trial[] = {&ttt, &evaluation, &trial_inner_loss, &trial_gate, &trial_position_loss, &pair_score};
  const std::span<RowTable* const> tables =
      kind == UnitKind::fit ? std::span<RowTable* const>(of_fit) : std::span<RowTable* const>(of_trial);
  for (RowTable* table : tables) table->rewind.bind(1, unit).bind(2, step).run();
}

void Store::add_rows(RowId fit, std::span<const TrainStepRow> rows) {
  impl_->require_transaction("add_rows");
  insert_all(impl_->rows->train, fit, rows);
}

void Store::add_rows(RowId trial, std::span<const TttStepRow> rows) {
  impl_->require_transaction("add_rows");
  insert_all(impl_->rows->ttt, trial, rows);
}

void Store::add_rows(UnitKind kind, RowId unit, std::span<const EvaluationRow> rows) {
  impl_->require_transaction("add_rows");
  insert_all(kind == UnitKind::fit ? impl_->rows->fit_evaluation : impl_->rows->evaluation, unit, rows);
}

void Store::add_rows(UnitKind kind, RowId unit, std::span<const InnerLossRow> rows) {
  impl_->require_transaction("add_rows");
  insert_all(kind == UnitKind::fit ? impl_->rows->fit_inner_loss : impl_->rows->trial_inner_loss, unit, rows);
}

void Store::add_rows(UnitKind kind, RowId unit, std::span<const GateRow> rows) {
  impl_->require_transaction("add_rows");
  insert_all(kind == UnitKind::fit ? impl_->rows->fit_gate : impl_->rows->trial_gate, unit, rows);
}

void Store::add_rows(UnitKind kind, RowId unit, std::span<const PositionLossRow> rows) {
  impl_->require_transaction("add_rows");
  insert_all(kind == UnitKind::fit ? impl_->rows->fit_position_loss : impl_->rows->trial_position_loss, unit, rows);
}

void Store::add_rows(RowId fit, std::span<const GroupStepRow> rows) {
  impl_->require_transaction("add_rows");
  insert_all(impl_->rows->group_step, fit, rows);
}

void Store::add_rows(RowId trial, std::span<const PairScoreRow> rows) {
  impl_->require_transaction("add_rows");
  insert_all(impl_->rows->pair_score, trial, rows);
}

}  // namespace tenfold

#include "db/store_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "db/writer.h"
#include "tests/db/store_fixture.h"

namespace tenfold {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

InnerLossRow inner_row(Phase phase, std::int64_t step, std::int32_t layer, std::int64_t position, double l0) {
  return {step, position, l0, l0 / 2, l0 / 4, layer, phase, {}};
}
GateRow gate_row(std::int64_t step, std::int32_t layer, double mean) {
  return {step, mean, mean - 1, mean + 1, layer, 0};
}
PositionLossRow position_row(Phase phase, std::int64_t step, std::int64_t position, double loss) {
  return {step, position, loss, 64, 0, phase, {}};
}
GroupStepRow group_row(std::int64_t step, ParameterGroup group, double norm) {
  return {step, norm, norm / 10, static_cast<std::int32_t>(group), 0};
}

// Two configurations on three folds: trials 1 and 4 share fit 1.
class StoreRowsTest : public ::testing::Test {
 protected:
  StoreRowsTest()
      : db(folder / "test.db"), store(Store::open(db)), plan(store.register_plan(small.experiment, small.plan)) {}

  RowId begin_attempt(UnitKind kind, RowId unit, std::int32_t number, std::int64_t resumed_from_step) {
    return store.begin_attempt({kind, unit, number, 1, "host", 42, "cpu", 0, "log", resumed_from_step});
  }
  void write_fit(RowId fit, std::int64_t first, std::int64_t last) {
    for (std::int64_t step = first; step <= last; ++step) {
      store.add_rows(UnitKind::fit, fit, std::vector{inner_row(Phase::validation, step, 1, 0, 2.0)});
      store.add_rows(UnitKind::fit, fit, std::vector{gate_row(step, 1, 0.25)});
      store.add_rows(UnitKind::fit, fit, std::vector{position_row(Phase::validation, step, 3, 1.5)});
      store.add_rows(fit,
                     std::vector{group_row(step, ParameterGroup::base, 2), group_row(step, ParameterGroup::gate, 1)});
    }
  }
  std::int64_t rows_in_all() {
    return integer_of(db,
                      "SELECT (SELECT count(*) FROM fit_inner_loss) + (SELECT count(*) FROM fit_gate) + "
                      "(SELECT count(*) FROM fit_position_loss) + (SELECT count(*) FROM parameter_group_step)");
  }

  TemporaryFolder folder;
  std::filesystem::path db;
  SmallExperiment small;
  Store store;
  RegisteredPlan plan;
};

TEST_F(StoreRowsTest, RowsComeBackAsWritten) {
  const RowId fit = plan.fits[0].id, trial = plan.trials[0].id;
  store.begin();
  begin_attempt(UnitKind::fit, fit, 1, -1);
  store.add_rows(UnitKind::trial, trial,
                 std::vector{inner_row(Phase::before, 0, 2, 5, 1.0), inner_row(Phase::after, 3, 2, 5, NAN)});
  store.add_rows(UnitKind::trial, trial, std::vector{gate_row(3, 2, 0.5)});
  store.add_rows(UnitKind::trial, trial, std::vector{position_row(Phase::after, 3, 7, 2.25)});
  store.add_rows(fit, std::vector{group_row(1, ParameterGroup::ttt, 3), group_row(1, ParameterGroup::lora, 1)});
  store.add_rows(trial, std::vector{PairScoreRow{3, 0.625, 0.5, 0.75, 2, 1, 0, 4, Phase::after, "verbs"}});
  store.commit();
  EXPECT_THAT(rows_of(db, "SELECT * FROM minimal_pairs"), ElementsAre("1|after|3|verbs|0.625|0.5|0.75|2|1|0|4"));
  EXPECT_THAT(rows_of(db, "SELECT * FROM inner_loss ORDER BY step"),
              ElementsAre("1|before|0|2|5|1.0|0.5|0.25", "1|after|3|2|5|||"));
  EXPECT_THAT(rows_of(db, "SELECT * FROM gate"), ElementsAre("1|adaptation|3|2|0.5|-0.5|1.5"));
  EXPECT_THAT(rows_of(db, "SELECT * FROM position_loss"), ElementsAre("1|after|3|7|0|2.25|64.0"));
  EXPECT_THAT(rows_of(db, "SELECT * FROM parameter_group_step"), ElementsAre("1|1|lora|1.0|0.1", "1|1|ttt|3.0|0.3"));
}

// What is measured at the end may belong to a step before the last checkpoint, so it is not undone when that is gone
// on from, and comes again.
TEST_F(StoreRowsTest, WhatIsMeasuredOnceMoreAfterAResumeIsThereOnce) {
  const RowId fit = plan.fits[0].id, trial = plan.trials[0].id;
  store.begin();
  for (std::int32_t attempt = 1; attempt <= 2; ++attempt) {
    begin_attempt(UnitKind::fit, fit, attempt, attempt == 1 ? -1 : 10);
    begin_attempt(UnitKind::trial, trial, attempt, attempt == 1 ? -1 : 10);
    store.add_rows(UnitKind::fit, fit, std::vector{evaluation_row(Phase::train, 9, "accuracy", .9)});
    store.add_rows(UnitKind::fit, fit, std::vector{gate_row(9, 1, 0.25)});
    store.add_rows(UnitKind::trial, trial, std::vector{evaluation_row(Phase::after, 9, "accuracy", .8)});
    store.add_rows(UnitKind::trial, trial, std::vector{inner_row(Phase::after, 9, 1, 0, 2.0)});
    store.add_rows(UnitKind::trial, trial, std::vector{position_row(Phase::after, 9, 3, 1.5)});
    store.add_rows(trial, std::vector{PairScoreRow{9, 0.625, 0.5, 0.75, 2, 1, 0, 4, Phase::after, "verbs"}});
  }
  store.commit();
  for (const char* table :
       {"fit_evaluation", "evaluation", "fit_gate", "trial_inner_loss", "trial_position_loss", "minimal_pairs"})
    EXPECT_EQ(integer_of(db, std::string("SELECT count(*) FROM ") + table), 1) << table;
  // Steps are computed once: two of the same number are a mistake that must show.
  store.begin();
  store.add_rows(fit, std::vector{train_row(11, 0.5)});
  EXPECT_THROW(store.add_rows(fit, std::vector{train_row(11, 0.5)}), Error);
  store.rollback();
}

TEST_F(StoreRowsTest, WhatAFitRecordedIsSeenByEveryTrialOfIt) {
  store.begin();
  begin_attempt(UnitKind::fit, plan.fits[0].id, 1, -1);
  write_fit(plan.fits[0].id, 1, 1);
  store.commit();
  EXPECT_THAT(rows_of(db, "SELECT trial, phase, step, layer, l0 FROM inner_loss ORDER BY trial"),
              ElementsAre("1|validation|1|1|2.0", "4|validation|1|1|2.0"));
  EXPECT_THAT(rows_of(db, "SELECT trial, stage, mean_tanh FROM gate ORDER BY trial"),
              ElementsAre("1|training|0.25", "4|training|0.25"));
  EXPECT_THAT(rows_of(db, "SELECT trial, position, loss FROM position_loss WHERE trial = 4"), ElementsAre("4|3|1.5"));
}

TEST_F(StoreRowsTest, ResumingTakesBackWhatCameAfterTheCheckpoint) {
  const RowId fit = plan.fits[0].id;
  store.begin();
  begin_attempt(UnitKind::fit, fit, 1, -1);
  write_fit(fit, 1, 4);
  begin_attempt(UnitKind::fit, fit, 2, 2);
  store.commit();
  EXPECT_EQ(rows_in_all(), 2 * 5);
  EXPECT_EQ(integer_of(db, "SELECT max(step) FROM parameter_group_step"), 2);
  store.begin();
  write_fit(fit, 3, 4);  // computed again, not doubled
  store.commit();
  EXPECT_EQ(rows_in_all(), 4 * 5);
  store.begin();
  begin_attempt(UnitKind::fit, fit, 3, -1);
  store.commit();
  EXPECT_EQ(rows_in_all(), 0);
}

TEST_F(StoreRowsTest, ResumingATrialLeavesItsFitAlone) {
  const RowId fit = plan.fits[0].id, trial = plan.trials[0].id;
  store.begin();
  begin_attempt(UnitKind::fit, fit, 1, -1);
  write_fit(fit, 1, 2);
  begin_attempt(UnitKind::trial, trial, 1, -1);
  store.add_rows(UnitKind::trial, trial, std::vector{inner_row(Phase::before, 0, 1, 0, 1)});
  store.add_rows(UnitKind::trial, trial, std::vector{gate_row(1, 1, .1), gate_row(2, 1, .1)});
  store.add_rows(UnitKind::trial, trial, std::vector{position_row(Phase::after, 2, 0, 1)});
  store.add_rows(trial, std::vector{PairScoreRow{2, 1, 0, 1, 1, 0, 0, 1, Phase::after, ""}});
  begin_attempt(UnitKind::trial, trial, 2, 1);
  store.commit();
  EXPECT_EQ(rows_in_all(), 2 * 5);
  EXPECT_THAT(rows_of(db, "SELECT step FROM trial_gate"), ElementsAre("1"));
  EXPECT_THAT(rows_of(db, "SELECT step FROM trial_inner_loss"), ElementsAre("0"));
  EXPECT_THAT(rows_of(db, "SELECT step FROM trial_position_loss"), IsEmpty());
  EXPECT_THAT(rows_of(db, "SELECT step FROM minimal_pairs"), IsEmpty());
}

// More than one INSERT takes, so that whole groups and the rest both pass.
TEST_F(StoreRowsTest, TheWriterStoresBlocksOfEveryKind) {
  const std::int64_t count = 2 * kRowsAtOnce + 5;
  AddInnerLosses inner{UnitKind::trial, 1, {}};
  AddGates gates{UnitKind::fit, 1, {}};
  AddPositionLosses positions{UnitKind::trial, 1, {}};
  AddGroupSteps groups{1, {}};
  for (std::int64_t i = 0; i < count; ++i) {
    inner.rows.push_back(inner_row(Phase::after, 1, 0, i, 1));
    gates.rows.push_back(gate_row(i, 0, .5));
    positions.rows.push_back(position_row(Phase::after, 1, i, static_cast<double>(i)));
    groups.rows.push_back(group_row(i, ParameterGroup::ttt, static_cast<double>(i)));
  }
  StoreWriter writer(std::move(store));
  writer.submit(inner);
  writer.submit(gates);
  writer.submit(positions);
  writer.submit(groups);
  writer.flush();
  for (const char* table : {"trial_inner_loss", "fit_gate", "trial_position_loss", "parameter_group_step"})
    EXPECT_EQ(integer_of(db, std::string("SELECT count(*) FROM ") + table), count) << table;
  EXPECT_EQ(integer_of(db, "SELECT sum(loss = position) FROM position_loss"), count);
  EXPECT_EQ(integer_of(db, "SELECT sum(grad_norm = step) FROM parameter_group_step"), count);
}

}  // namespace
}  // namespace tenfold

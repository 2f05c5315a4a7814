#include "db/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "tests/db/store_fixture.h"

namespace tenfold {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class StoreTest : public ::testing::Test {
 protected:
  StoreTest()
      : db(folder / "test.db"), store(Store::open(db)), plan(store.register_plan(small.experiment, small.plan)) {}

  RowId begin_attempt(UnitKind kind, RowId unit, std::int32_t number = 1, std::int64_t resumed_from_step = -1) {
    return store.begin_attempt({kind, unit, number, 1, "host", 42, "cpu", 0, "log", resumed_from_step});
  }
  void add_checkpoint(UnitKind kind, RowId unit, RowId attempt, std::int64_t step, std::int32_t keep = 2,
                      std::int64_t history = 0, const std::string& prefix = "a") {
    store.add_checkpoint({kind, unit, attempt, {prefix + std::to_string(step), 0, step, "sha", 10}, keep, history});
  }
  void finish(RowId attempt, TrialStatus status, const std::string& reason = "") {
    store.finish_attempt({attempt, status, status, reason, 1.5, 1000});
  }
  std::vector<std::string> steps_of_fit() {
    return rows_of(db, "SELECT step FROM checkpoint WHERE fit = 1 ORDER BY step");
  }

  TemporaryFolder folder;
  std::filesystem::path db;
  SmallExperiment small;
  Store store;
  RegisteredPlan plan;
};

TEST_F(StoreTest, RowsComeBackAsWritten) {
  const RowId fit = plan.fits[0].id, trial = plan.trials[0].id;
  store.begin();
  begin_attempt(UnitKind::fit, fit);
  store.add_rows(fit, std::vector{train_row(1, 2.5), train_row(2, NAN)});
  store.add_rows(trial, std::vector{ttt_row(0, 0.5, 0.125), ttt_row(1, 0.25, 0.0625)});
  store.add_rows(UnitKind::trial, trial, std::vector{evaluation_row(Phase::before, 0, "accuracy", 0.75)});
  store.add_rows(UnitKind::trial, trial, std::vector{evaluation_row(Phase::before, 0, "nll", 0.6)});
  store.commit();
  EXPECT_THAT(rows_of(db, "SELECT step, epoch, loss, lr FROM train_step"), ElementsAre("1|0|2.5|0.001", "2|0||0.001"));
  EXPECT_THAT(rows_of(db, "SELECT step, entropy, diversity, grad_norm IS NULL FROM ttt_step"),
              ElementsAre("0|0.5|0.125|1", "1|0.25|0.0625|0"));
  EXPECT_THAT(rows_of(db, "SELECT phase, metric, value, hits, total FROM evaluation ORDER BY metric"),
              ElementsAre("before|accuracy|0.75|75|100", "before|nll|0.6||100"));
}

TEST_F(StoreTest, NothingOfARolledBackTransactionHappened) {
  store.begin();
  begin_attempt(UnitKind::fit, plan.fits[0].id);
  store.add_rows(plan.fits[0].id, std::vector{train_row(1, 1)});
  store.rollback();
  EXPECT_EQ(integer_of(db, "SELECT count(*) FROM train_step"), 0);
  EXPECT_EQ(integer_of(db, "SELECT count(*) FROM attempt"), 0);
}

TEST_F(StoreTest, ResumingDeletesWhatCameAfterTheCheckpoint) {
  const RowId trial = plan.trials[0].id;
  store.begin();
  const RowId first = begin_attempt(UnitKind::trial, trial);
  store.add_rows(trial, std::vector{ttt_row(0, .5, .1), ttt_row(1, .4, .1)});
  store.add_rows(UnitKind::trial, trial, std::vector{evaluation_row(Phase::before, 0, "accuracy", .5)});
  add_checkpoint(UnitKind::trial, trial, first, 1);
  store.add_rows(trial, std::vector{ttt_row(2, .3, .1)});
  store.add_rows(UnitKind::trial, trial, std::vector{evaluation_row(Phase::after, 2, "accuracy", .6)});
  add_checkpoint(UnitKind::trial, trial, first, 2);
  store.commit();
  store.begin();
  begin_attempt(UnitKind::trial, trial, 2, 1);             // the file of step 2 was damaged
  store.add_rows(trial, std::vector{ttt_row(2, .3, .1)});  // computed again, not doubled
  store.commit();
  EXPECT_THAT(rows_of(db, "SELECT step FROM ttt_step ORDER BY 1"), ElementsAre("0", "1", "2"));
  EXPECT_THAT(rows_of(db, "SELECT phase FROM evaluation"), ElementsAre("before"));
  EXPECT_THAT(rows_of(db, "SELECT step FROM checkpoint"), ElementsAre("1"));
  EXPECT_THAT(store.take_superseded_checkpoints(), ElementsAre("a2"));
  store.begin();
  begin_attempt(UnitKind::trial, trial, 3, -1);
  store.commit();
  EXPECT_EQ(integer_of(db, "SELECT (SELECT count(*) FROM ttt_step) + (SELECT count(*) FROM evaluation)"), 0);
}

TEST_F(StoreTest, KeepsTheNewestCheckpointsAndTheHistory) {
  const RowId fit = plan.fits[0].id;
  store.begin();
  const RowId attempt = begin_attempt(UnitKind::fit, fit);
  for (std::int64_t step = 10; step <= 60; step += 10) add_checkpoint(UnitKind::fit, fit, attempt, step, 2, 30);
  store.commit();
  EXPECT_THAT(steps_of_fit(), ElementsAre("30", "50", "60"));
  EXPECT_THAT(store.take_superseded_checkpoints(), ElementsAre("a10", "a20", "a40"));
  EXPECT_THAT(store.take_superseded_checkpoints(), IsEmpty());
}

// How often a rate was lowered outlives the run, and what it does not go back to goes with the decision.
TEST_F(StoreTest, ALoweredRateIsFoundByTheNextRun) {
  const SmallExperiment lowering("ttt.batch_size: [4, 8]", "small", "on_nonfinite: lower_rate\n");
  const RowId fit = plan.fits[0].id, trial = plan.trials[3].id;
  store.begin();
  const RowId attempt = begin_attempt(UnitKind::fit, fit), other = begin_attempt(UnitKind::trial, trial);
  for (std::int64_t step = 10; step <= 30; step += 10) add_checkpoint(UnitKind::fit, fit, attempt, step, 3, 10);
  AttemptEnd end{attempt, TrialStatus::failed, TrialStatus::pending, "the training loss became NaN at update 33", 1, 1};
  end.rate = LoweredRate{0.25, 2, 20};
  store.finish_attempt(end);
  end.attempt = other;
  end.rate = LoweredRate{0.5, 1, -1};
  store.finish_attempt(end);
  store.commit();
  EXPECT_THAT(steps_of_fit(), ElementsAre("10", "20"));
  EXPECT_THAT(rows_of(db, "SELECT rate_scale, rate_lowered, rate_lowered_from FROM fit WHERE rate_lowered > 0"),
              ElementsAre("0.25|2|20"));
  RegisteredPlan again = store.register_plan(lowering.experiment, lowering.plan);
  EXPECT_EQ(again.fits[0].rate, (LoweredRate{0.25, 2, 20}));
  EXPECT_EQ(again.fits[1].rate, LoweredRate{});
  EXPECT_EQ(again.trials[3].rate, (LoweredRate{0.5, 1, -1}));
  // Lowered in vain: whoever starts it again has changed something, and it begins as the experiment says.
  store.begin();
  finish(begin_attempt(UnitKind::fit, fit, 2, 20), TrialStatus::failed, "in vain");
  store.commit();
  again = store.register_plan(lowering.experiment, lowering.plan);
  EXPECT_EQ(again.fits[0].status, TrialStatus::failed);
  EXPECT_EQ(again.fits[0].rate, LoweredRate{});
  EXPECT_THAT(again.fits[0].checkpoints, IsEmpty()) << "of the lower rate";
  again = store.register_plan(lowering.experiment, lowering.plan);  // as after a kill at this instant
  EXPECT_THAT(again.fits[0].checkpoints, IsEmpty());
  EXPECT_EQ(integer_of(db, "SELECT sum(rate_lowered) FROM fit"), 0);
}

// A fit that ended with a lower rate and is computed again, for a run found its parameters damaged, begins at the full
// one: its attempt says so.
TEST_F(StoreTest, AnAttemptMayBeginAtAnotherRate) {
  const RowId fit = plan.fits[0].id;
  store.begin();
  AttemptEnd end{begin_attempt(UnitKind::fit, fit), TrialStatus::failed, TrialStatus::pending, "not finite", 1, 1};
  end.rate = LoweredRate{0.5, 1, -1};
  store.finish_attempt(end);
  AttemptStart start{UnitKind::fit, fit, 2, 1, "host", 42, "cpu", 0, "log", -1};
  start.rate = LoweredRate{};
  store.begin_attempt(start);
  store.commit();
  EXPECT_THAT(rows_of(db, "SELECT rate_scale, rate_lowered FROM fit WHERE id = " + std::to_string(fit)),
              ElementsAre("1.0|0"));
}

// Found by reading: a trial ended while the fit that it came from was computed once more for another one.
TEST_F(StoreTest, ATrialThatEndsWhileItsFitIsComputedAgainHasTheFitsRows) {
  const RowId fit = plan.fits[0].id;
  RowId trial = 0;
  for (std::size_t i = 0; i < plan.trials.size(); ++i)
    if (small.plan.trials[i].fit == 0) trial = plan.trials[i].id;
  store.begin();
  const RowId running = begin_attempt(UnitKind::trial, trial), again = begin_attempt(UnitKind::fit, fit, 2);
  finish(running, TrialStatus::done);
  store.add_rows(UnitKind::fit, fit, std::vector{evaluation_row(Phase::train, 12, "accuracy", .9)});
  finish(again, TrialStatus::done);
  store.commit();
  const std::string copied = std::to_string(trial) + "|train|0.9";
  EXPECT_THAT(rows_of(db, "SELECT trial, phase, value FROM evaluation"), ElementsAre(copied));
  // What it has stays as it was, whatever a third computation gives.
  store.begin();
  const RowId third = begin_attempt(UnitKind::fit, fit, 3);
  store.add_rows(UnitKind::fit, fit, std::vector{evaluation_row(Phase::train, 12, "accuracy", .7)});
  finish(third, TrialStatus::done);
  store.commit();
  EXPECT_THAT(rows_of(db, "SELECT trial, phase, value FROM evaluation"), ElementsAre(copied));
}

TEST_F(StoreTest, ASharedFileLivesUntilItsLastMemberLeavesIt) {
  store.begin();
  const RowId one = begin_attempt(UnitKind::fit, plan.fits[0].id), two = begin_attempt(UnitKind::fit, plan.fits[1].id);
  add_checkpoint(UnitKind::fit, plan.fits[0].id, one, 10, 1, 0, "shared");
  add_checkpoint(UnitKind::fit, plan.fits[1].id, two, 10, 1, 0, "shared");
  add_checkpoint(UnitKind::fit, plan.fits[0].id, one, 20, 1, 0, "own");
  store.commit();
  EXPECT_THAT(store.take_superseded_checkpoints(), IsEmpty());
  store.begin();
  add_checkpoint(UnitKind::fit, plan.fits[1].id, two, 20, 1, 0, "other");
  store.commit();
  EXPECT_THAT(store.take_superseded_checkpoints(), ElementsAre("shared10"));
}

// Names in a store from elsewhere may not have files outside of its own folder deleted.
TEST_F(StoreTest, OnlyFilesOfItsOwnFolderAreSuperseded) {
  const RowId fit = plan.fits[0].id;
  store.begin();
  const RowId attempt = begin_attempt(UnitKind::fit, fit);
  std::int64_t step = 0;
  for (const char* name : {"../other", "/home/somebody/thesis", "sub/file", "plain", "last"})
    add_checkpoint(UnitKind::fit, fit, attempt, ++step, 1, 0, name);
  store.commit();
  EXPECT_THAT(store.take_superseded_checkpoints(), ElementsAre("plain4"));
}

TEST_F(StoreTest, AFitsLastCheckpointLivesUntilItsTrialsAreSettled) {
  // Two configurations share the three fits.
  ASSERT_EQ(plan.fits.size(), 3u);
  ASSERT_EQ(plan.trials.size(), 6u);
  const RowId fit = plan.fits[0].id;
  std::vector<RowId> trials;
  for (std::size_t i = 0; i < plan.trials.size(); ++i)
    if (small.plan.trials[i].fit == 0) trials.push_back(plan.trials[i].id);
  ASSERT_EQ(trials.size(), 2u);
  store.begin();
  const RowId attempt = begin_attempt(UnitKind::fit, fit);
  store.add_rows(UnitKind::fit, fit, std::vector{evaluation_row(Phase::train, 12, "accuracy", .9)});
  add_checkpoint(UnitKind::fit, fit, attempt, 6);
  add_checkpoint(UnitKind::fit, fit, attempt, 12);
  finish(attempt, TrialStatus::done);
  store.commit();
  EXPECT_THAT(steps_of_fit(), ElementsAre("12"));
  EXPECT_THAT(store.take_superseded_checkpoints(), ElementsAre("a6"));
  store.begin();
  const RowId first = begin_attempt(UnitKind::trial, trials[0]);
  add_checkpoint(UnitKind::trial, trials[0], first, 1, 2, 0, "t");
  finish(first, TrialStatus::done);
  store.commit();
  EXPECT_THAT(store.take_superseded_checkpoints(), ElementsAre("t1"));
  EXPECT_THAT(steps_of_fit(), ElementsAre("12"));
  // The fit's rows were copied, so that evaluation is complete per trial.
  EXPECT_THAT(rows_of(db, "SELECT trial, phase, value FROM evaluation"),
              ElementsAre(std::to_string(trials[0]) + "|train|0.9"));
  store.begin();
  finish(begin_attempt(UnitKind::trial, trials[1]), TrialStatus::failed, "loss is not finite");
  store.commit();
  EXPECT_THAT(steps_of_fit(), IsEmpty());
  EXPECT_THAT(store.take_superseded_checkpoints(), ElementsAre("a12"));
  EXPECT_THAT(rows_of(db, "SELECT status, reason FROM trial WHERE id = " + std::to_string(trials[1])),
              ElementsAre("failed|loss is not finite"));
}

TEST_F(StoreTest, TrialsOfAFailedFitFailWithItsReason) {
  store.begin();
  finish(begin_attempt(UnitKind::fit, plan.fits[0].id), TrialStatus::failed, "out of memory");
  store.commit();
  EXPECT_EQ(integer_of(db, "SELECT count(*) FROM trial WHERE status = 'failed'"), 2);
  EXPECT_THAT(rows_of(db, "SELECT DISTINCT reason FROM trial WHERE status = 'failed'"),
              ElementsAre("its training failed: out of memory"));
}

TEST_F(StoreTest, OrphansAreSweptAndNamedFilesStay) {
  std::filesystem::create_directories(checkpoint_folder(db));
  for (const char* name : {"a5", "left-over.safetensors"}) std::ofstream(checkpoint_folder(db) / name) << "x";
  store.begin();
  add_checkpoint(UnitKind::fit, plan.fits[0].id, begin_attempt(UnitKind::fit, plan.fits[0].id), 5);
  store.commit();
  EXPECT_EQ(store.sweep_orphans(), 1);
  EXPECT_TRUE(std::filesystem::exists(checkpoint_folder(db) / "a5"));
  EXPECT_FALSE(std::filesystem::exists(checkpoint_folder(db) / "left-over.safetensors"));
}

TEST_F(StoreTest, ForeignKeysHold) {
  store.begin();
  EXPECT_THAT(error_of([&] { store.add_rows(999, std::vector{ttt_row(0, 1, 1)}); }), HasSubstr("FOREIGN KEY"));
  store.rollback();
}

TEST(StoreOpenTest, RefusesWhatIsNotItsOwn) {
  TemporaryFolder folder;
  std::ofstream(folder / "text.db") << std::string(5000, 'x');
  EXPECT_THAT(error_of([&] { Store::open(folder / "text.db"); }), HasSubstr("no tenfold store"));
  {
    Connection other(folder / "other.db", Connection::Access::read_write);
    other.execute("CREATE TABLE t(x)");
  }
  EXPECT_THAT(error_of([&] { Store::open(folder / "other.db"); }), HasSubstr("another program"));
  Store::open(folder / "newer.db");
  {
    Connection newer(folder / "newer.db", Connection::Access::read_write);
    newer.execute("PRAGMA user_version = 99");
  }
  EXPECT_THAT(error_of([&] { Store::open(folder / "newer.db"); }), HasSubstr("newer tenfold"));
  EXPECT_THAT(error_of([&] { Store::open(folder / "missing/x.db"); }), HasSubstr("check that the folder exists"));
}

TEST(StoreOpenTest, SettingsAreThoseThatDurabilityNeeds) {
  TemporaryFolder folder;
  Store::open(folder / "a.db");
  EXPECT_THAT(rows_of(folder / "a.db", "PRAGMA journal_mode"), ElementsAre("wal"));
  EXPECT_THAT(rows_of(folder / "a.db",
                      "SELECT count(*) FROM pragma_table_list WHERE type = 'table' AND NOT strict "
                      "AND name NOT LIKE 'sqlite%'"),
              ElementsAre("0"));
}

}  // namespace
}  // namespace tenfold

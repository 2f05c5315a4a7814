#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <optional>

#include "db/store.h"
#include "tests/db/store_fixture.h"

namespace tenfold {
namespace {

using ::testing::ElementsAre;

void finish_unit(Store& store, UnitKind kind, RowId unit, TrialStatus status, const std::string& checkpoint = "") {
  store.begin();
  const RowId attempt = store.begin_attempt({kind, unit, 1, 1, "host", 42, "cpu", 0, "log", -1});
  if (!checkpoint.empty()) store.add_checkpoint({kind, unit, attempt, {checkpoint, 0, 12, "sha", 10}, 2, 0});
  store.finish_attempt({attempt, status, status, "", 2.0, 1000});
  store.commit();
}

TEST(RegistrationTest, IsIdempotent) {
  TemporaryFolder folder;
  const SmallExperiment small;
  Store store = Store::open(folder / "a.db");
  const RegisteredPlan first = store.register_plan(small.experiment, small.plan);
  EXPECT_FALSE(first.existed);
  EXPECT_EQ(first.revision, 1);
  EXPECT_EQ(first.new_configurations, 2);
  EXPECT_EQ(first.fits.size(), 3u);
  EXPECT_EQ(first.trials.size(), 6u);
  const RegisteredPlan second = store.register_plan(small.experiment, small.plan);
  EXPECT_TRUE(second.existed);
  EXPECT_EQ(second.revision, 1);
  EXPECT_EQ(second.new_configurations, 0);
  EXPECT_EQ(second.retired_configurations, 0);
  for (std::size_t i = 0; i < first.trials.size(); ++i) EXPECT_EQ(first.trials[i].id, second.trials[i].id);
  EXPECT_EQ(integer_of(folder / "a.db", "SELECT count(*) FROM trial"), 6);
  EXPECT_EQ(integer_of(folder / "a.db", "SELECT count(*) FROM fold"), 3);
}

TEST(RegistrationTest, AChangedFileIsANewRevisionThatKeepsWhatStays) {
  TemporaryFolder folder;
  const std::filesystem::path db = folder / "a.db";
  const SmallExperiment before("ttt.batch_size: [4, 8]"), after("ttt.batch_size: [8, 16]");
  Store store = Store::open(db);
  const RegisteredPlan first = store.register_plan(before.experiment, before.plan);
  finish_unit(store, UnitKind::trial, first.trials[3].id, TrialStatus::done);  // of batch size 8
  const RegisteredPlan second = store.register_plan(after.experiment, after.plan);
  EXPECT_EQ(second.revision, 2);
  EXPECT_EQ(second.new_configurations, 1);
  EXPECT_EQ(second.retired_configurations, 1);
  EXPECT_EQ(second.trials[0].id, first.trials[3].id);
  EXPECT_EQ(second.trials[0].status, TrialStatus::done);
  EXPECT_EQ(second.fits[0].id, first.fits[0].id);
  EXPECT_THAT(rows_of(db, "SELECT DISTINCT label FROM trial_summary ORDER BY configuration"),
              ElementsAre(after.experiment.configurations()[0].label, after.experiment.configurations()[1].label));
  // And back again: everything is still there.
  const RegisteredPlan third = store.register_plan(before.experiment, before.plan);
  EXPECT_EQ(third.revision, 3);
  EXPECT_EQ(third.new_configurations, 0);
  EXPECT_EQ(third.trials[3].status, TrialStatus::done);
  EXPECT_THAT(rows_of(db, "SELECT revision, length(text) > 0 FROM experiment_revision"),
              ElementsAre("1|1", "2|1", "3|1"));
}

TEST(RegistrationTest, ChangedDataWithTheSameSplitsHaveFoldsOfTheirOwn) {
  TemporaryFolder folder;
  const std::filesystem::path db = folder / "a.db";
  const SmallExperiment before;
  const Plan after = make_plan(before.experiment, [](const ExperimentSpec& spec) {
    DatasetSummary summary = synthetic_summary(spec);
    summary.fingerprint = sha256("other samples, the same labels");
    return summary;
  });
  Store store = Store::open(db);
  store.register_plan(before.experiment, before.plan);
  const RegisteredPlan second = store.register_plan(before.experiment, after);
  EXPECT_EQ(second.new_configurations, 2);
  EXPECT_THAT(rows_of(db,
                      "SELECT t.revision, d.fingerprint, count(*) FROM trial t JOIN fold f ON f.id = t.split "
                      "JOIN dataset d ON d.id = f.dataset GROUP BY 1, 2 ORDER BY 1"),
              ElementsAre("1|" + before.plan.datasets[0].fingerprint.hex() + "|6",
                          "2|" + after.datasets[0].fingerprint.hex() + "|6"));
}

TEST(RegistrationTest, ALabelMayChangeAndTheResultsStay) {
  TemporaryFolder folder;
  const SmallExperiment one("ttt.batch_size: [8]"), grid("ttt.batch_size: [8], ttt.steps: [3]");
  Store store = Store::open(folder / "a.db");
  const RegisteredPlan first = store.register_plan(one.experiment, one.plan);
  const RegisteredPlan second = store.register_plan(grid.experiment, grid.plan);
  EXPECT_EQ(second.new_configurations, 0);
  EXPECT_EQ(second.revision, 1);
  EXPECT_EQ(second.trials[2].id, first.trials[2].id);
}

TEST(RegistrationTest, CleansUpAfterACrash) {
  TemporaryFolder folder;
  const std::filesystem::path db = folder / "a.db";
  const SmallExperiment small;
  {
    Store store = Store::open(db);
    const RegisteredPlan plan = store.register_plan(small.experiment, small.plan);
    finish_unit(store, UnitKind::trial, plan.trials[1].id, TrialStatus::failed);
    store.begin();
    const RowId attempt = store.begin_attempt({UnitKind::fit, plan.fits[0].id, 1, 1, "host", 42, "cpu", 0, "log", -1});
    store.add_checkpoint({UnitKind::fit, plan.fits[0].id, attempt, {"f-1-6", 3, 6, "sha", 10}, 2, 0});
    store.commit();
  }
  Store store = Store::open(db);
  const RegisteredPlan plan = store.register_plan(small.experiment, small.plan);
  EXPECT_EQ(plan.fits[0].status, TrialStatus::pending);
  EXPECT_EQ(plan.fits[0].attempts, 1);
  ASSERT_EQ(plan.fits[0].checkpoints.size(), 1u);
  EXPECT_EQ(plan.fits[0].checkpoints[0].path, "f-1-6");
  EXPECT_EQ(plan.fits[0].checkpoints[0].array_index, 3);
  EXPECT_EQ(plan.fits[0].checkpoints[0].step, 6);
  EXPECT_EQ(plan.trials[1].status, TrialStatus::failed);
  EXPECT_THAT(rows_of(db, "SELECT outcome, reason FROM attempt WHERE fit IS NOT NULL"),
              ElementsAre("failed|the run ended without a word"));
  EXPECT_THAT(rows_of(db, "SELECT kind, detail FROM event"),
              ElementsAre("run_lost|the run before this one ended without a word; attempts under way: 1"));
}

TEST(RegistrationTest, ADoneFitWithoutItsCheckpointIsOpenedAgainForANewTrial) {
  TemporaryFolder folder;
  const SmallExperiment before("ttt.batch_size: [4]"), after("ttt.batch_size: [4, 8]");
  Store store = Store::open(folder / "a.db");
  const RegisteredPlan first = store.register_plan(before.experiment, before.plan);
  for (std::size_t i = 0; i < 3; ++i)
    finish_unit(store, UnitKind::fit, first.fits[i].id, TrialStatus::done, "f" + std::to_string(i));
  // Fit 0 is settled with its only trial; fits 1 and 2 still wait for theirs.
  finish_unit(store, UnitKind::trial, first.trials[0].id, TrialStatus::done);
  EXPECT_THAT(store.take_superseded_checkpoints(), ElementsAre("f0"));
  const RegisteredPlan same = store.register_plan(before.experiment, before.plan);
  EXPECT_EQ(same.fits[0].status, TrialStatus::done);  // nobody needs it
  const RegisteredPlan second = store.register_plan(after.experiment, after.plan);
  EXPECT_EQ(second.fits[0].status, TrialStatus::pending);
  EXPECT_EQ(second.fits[1].status, TrialStatus::done);
  ASSERT_EQ(second.fits[1].checkpoints.size(), 1u);
  EXPECT_EQ(second.trials[0].expected_wall_s, 2.0);
  EXPECT_EQ(second.fits[0].expected_wall_s, 2.0);
}

// The step that spoiled a fit has no row, so that the one before it is its last, and a checkpoint of that one may be
// there for the history: it has the parameters that the fit was put back from.
TEST(RegistrationTest, HistoryOfAFitThatWasPutBackIsNotTakenForItsEnd) {
  for (const bool put_back : {false, true}) {
    TemporaryFolder folder;
    const std::string policy = "on_nonfinite: stop\n";
    const SmallExperiment before("ttt.batch_size: [4]", "small", policy),
        after("ttt.batch_size: [4, 8]", "small", policy);
    Store store = Store::open(folder / "a.db");
    const RegisteredPlan first = store.register_plan(before.experiment, before.plan);
    const RowId fit = first.fits[0].id;
    store.begin();
    const RowId attempt = store.begin_attempt({UnitKind::fit, fit, 1, 1, "host", 42, "cpu", 0, "log", -1});
    store.add_rows(fit, std::vector{train_row(9, 0.5), train_row(10, 0.5)});
    store.add_checkpoint({UnitKind::fit, fit, attempt, {"history", 0, 10, "sha", 10}, 2, 10});
    if (put_back) store.add_checkpoint({UnitKind::fit, fit, attempt, {"trained", 0, 12, "sha", 10}, 2, 10});
    AttemptEnd end{attempt, TrialStatus::done, TrialStatus::done, "", 2.0, 1000};
    end.stopped_nonfinite = put_back;
    store.finish_attempt(end);
    store.commit();
    finish_unit(store, UnitKind::trial, first.trials[0].id, TrialStatus::done);
    EXPECT_THAT(rows_of(folder / "a.db", "SELECT path FROM checkpoint"), ElementsAre("history"));
    const RegisteredPlan second = store.register_plan(after.experiment, after.plan);
    EXPECT_EQ(second.fits[0].id, fit);
    EXPECT_EQ(second.fits[0].status, put_back ? TrialStatus::pending : TrialStatus::done);
  }
}

TEST(RegistrationTest, TwoExperimentsShareAFit) {
  TemporaryFolder folder;
  const SmallExperiment one("ttt.batch_size: [4]", "one"), two("ttt.batch_size: [8]", "two");
  Store store = Store::open(folder / "a.db");
  const RegisteredPlan first = store.register_plan(one.experiment, one.plan);
  const RegisteredPlan second = store.register_plan(two.experiment, two.plan);
  EXPECT_EQ(first.fits[0].id, second.fits[0].id);
  EXPECT_NE(first.trials[0].id, second.trials[0].id);
}

TEST(RegistrationTest, ManyTrialsRegisterInSeconds) {
  TemporaryFolder folder;
  std::string values;
  for (int i = 0; i < 5000; ++i) values += (i == 0 ? "" : ", ") + std::to_string(1e-5 * (i + 1));
  const SmallExperiment many("ttt.lr: [" + values + "]", "many");
  ASSERT_EQ(many.plan.trials.size(), 15'000u);
  Store store = Store::open(folder / "a.db");
  const auto start = std::chrono::steady_clock::now();
  const RegisteredPlan plan = store.register_plan(many.experiment, many.plan);
  const std::chrono::duration<double> first = std::chrono::steady_clock::now() - start;
  store.register_plan(many.experiment, many.plan);
  const std::chrono::duration<double> both = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(plan.trials.size(), 15'000u);
  RecordProperty("first_ms", static_cast<int>(first.count() * 1000));
  EXPECT_LT(both.count(), 60);  // a guard against quadratic behaviour, not a figure
}

TEST(ModelSizeTest, IsKeptPerConfigurationAndLearnedLater) {
  TemporaryFolder folder;
  const SmallExperiment small;
  {
    Store store = Store::open(folder / "a.db");
    store.register_plan(small.experiment, small.plan);
    EXPECT_EQ(integer_of(folder / "a.db", "SELECT count(parameters) FROM configuration"), 0);
    store.register_plan(small.experiment, small.plan, std::vector<std::int64_t>{39, 40});
  }
  EXPECT_THAT(rows_of(folder / "a.db", "SELECT parameters FROM configuration ORDER BY position"),
              ElementsAre("39", "40"));
  Store::open(folder / "a.db").register_plan(small.experiment, small.plan);  // by who does not know them: kept
  EXPECT_EQ(integer_of(folder / "a.db", "SELECT sum(parameters) FROM configuration"), 79);
  EXPECT_THAT(rows_of(folder / "a.db", "SELECT kind, label_kind, steps, sample_shape FROM dataset"),
              ElementsAre("fixed|sample|90|5"));
}

// Ends a fit as a policy of on_nonfinite did.
void end_fit(Store& store, RowId fit, bool stopped, std::optional<LoweredRate> rate = {}) {
  store.begin();
  const RowId attempt = store.begin_attempt({UnitKind::fit, fit, 1, 1, "host", 42, "cpu", 0, "log", -1});
  if (rate) store.finish_attempt({attempt, TrialStatus::failed, TrialStatus::pending, "inf", 1, 1000, rate});
  if (rate) store.begin_attempt({UnitKind::fit, fit, 2, 1, "host", 42, "cpu", 0, "log", -1});
  store.finish_attempt({attempt + (rate ? 1 : 0), TrialStatus::done, TrialStatus::done, "", 1, 1000, {}, stopped});
  store.commit();
}

// What was stopped, or lowered, by one experiment's policy is not taken for whole by another's.
TEST(RegistrationTest, FitsThatWereNotFiniteAreSharedOnlyUnderTheSamePolicy) {
  TemporaryFolder folder;
  const auto fits_of = [&](Store& store, const std::string& name, const std::string& policy) {
    const SmallExperiment small("ttt.batch_size: [4, 8]", name, "on_nonfinite: " + policy + "\n");
    return store.register_plan(small.experiment, small.plan);
  };
  Store store = Store::open(folder / "a.db");
  const RegisteredPlan first = fits_of(store, "first", "stop");
  EXPECT_EQ(first.fits_apart, 0);
  end_fit(store, first.fits[0].id, true);
  end_fit(store, first.fits[1].id, false, LoweredRate{0.25, 2, -1});
  end_fit(store, first.fits[2].id, false);

  const RegisteredPlan strict = fits_of(store, "strict", "fail");
  EXPECT_EQ(strict.fits_apart, 2);
  EXPECT_NE(strict.fits[0].id, first.fits[0].id);
  EXPECT_NE(strict.fits[1].id, first.fits[1].id);
  EXPECT_EQ(strict.fits[2].id, first.fits[2].id) << "it was finite all the way";
  EXPECT_EQ(strict.fits[0].status, TrialStatus::pending);
  EXPECT_EQ(strict.fits[1].rate, LoweredRate{});
  const RegisteredPlan other_strict = fits_of(store, "another", "fail");
  EXPECT_EQ(other_strict.fits_apart, 0) << "these two go alike";
  EXPECT_EQ(other_strict.fits[0].id, strict.fits[0].id);

  EXPECT_EQ(fits_of(store, "stops_too", "stop").fits[0].id, first.fits[0].id);
  EXPECT_NE(fits_of(store, "less", "{policy: lower_rate, factor: 0.5, times: 1}").fits[1].id, first.fits[1].id);
  EXPECT_NE(fits_of(store, "slower", "{policy: lower_rate, factor: 0.4}").fits[1].id, first.fits[1].id);
  EXPECT_EQ(fits_of(store, "lowers", "{policy: lower_rate, factor: 0.5}").fits[1].id, first.fits[1].id);
  EXPECT_THAT(rows_of(folder / "a.db",
                      "SELECT DISTINCT t.fit FROM trial t JOIN experiment e ON e.id = t.experiment "
                      "WHERE e.name = 'first' ORDER BY 1"),
              ElementsAre(std::to_string(first.fits[0].id), std::to_string(first.fits[1].id),
                          std::to_string(first.fits[2].id)));
}

}  // namespace
}  // namespace tenfold

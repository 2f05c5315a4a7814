#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "db/experiment_recommendations.h"
#include "db/experiment_report_data.h"
#include "db/report_experiment.h"
#include "db/schema.h"
#include "tests/db/store_fixture.h"

namespace tenfold {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Two configurations that share the fits of three folds. Ten epochs of two updates each.
class ExperimentReportTest : public ::testing::Test {
 protected:
  ExperimentReportTest() : db(folder / "a.db") {
    Store store = Store::open(db);
    const RegisteredPlan plan = store.register_plan(small.experiment, small.plan, std::vector<std::int64_t>{250, 250});
    store.begin();
    for (std::size_t f = 0; f < plan.fits.size(); ++f) {
      const auto fold = static_cast<double>(f);
      const RowId fit = plan.fits[f].id;
      const RowId attempt = store.begin_attempt({UnitKind::fit, fit, 1, 1, "host", 1, "cpu", 0, "log", -1});
      std::vector<TrainStepRow> rows;
      for (std::int64_t step = 1; step <= 20; ++step) {
        const std::int64_t epoch = (step - 1) / 2;
        const double loss = 2.0 - 0.1 * static_cast<double>(epoch) + (step % 2 == 0 ? 0.05 : -0.05);
        rows.push_back({step, epoch, loss, step <= 10 ? 1e-3 : 1e-4, step == 3 ? 30.0 : 1.0, 0.25});
      }
      store.add_rows(fit, rows);
      for (const auto& [step, accuracy, nll] :
           {std::tuple{10, 0.70, 0.80}, std::tuple{14, 0.68, 0.90}, std::tuple{20, 0.66 + 0.01 * fold, 1.0}})
        store.add_rows(UnitKind::fit, fit,
                       std::vector{evaluation_row(Phase::validation, step, "accuracy", accuracy),
                                   evaluation_row(Phase::validation, step, "nll", nll)});
      store.add_rows(
          UnitKind::fit, fit,
          std::vector{evaluation_row(Phase::train, 20, "accuracy", 0.9), evaluation_row(Phase::train, 20, "nll", 0.4)});
      store.finish_attempt({attempt, TrialStatus::done, TrialStatus::done, "", 5 + fold, 1});
    }
    for (std::size_t t = 0; t + 1 < plan.trials.size(); ++t) {  // one is not done
      const RowId attempt =
          store.begin_attempt({UnitKind::trial, plan.trials[t].id, 1, 1, "host", 1, "cpu", 0, "log", -1});
      store.add_rows(UnitKind::trial, plan.trials[t].id,
                     std::vector{evaluation_row(Phase::before, 0, "accuracy", 0.3),
                                 evaluation_row(Phase::after, 3, "accuracy", 0.35)});
      store.finish_attempt({attempt, TrialStatus::done, TrialStatus::done, "", 2.0, 1});
    }
    store.commit();
  }

  // The cells of the row whose first column is `quantity` of the first configuration.
  static nlohmann::json quantity(const nlohmann::json& section, const char* table, const std::string& name) {
    for (const auto& row : section["tables"][table])
      if (row["quantity"] == name) return row;
    ADD_FAILURE() << "no '" << name << "' in " << section["tables"].dump(1);
    return nlohmann::json::object();
  }

  TemporaryFolder folder;
  std::filesystem::path db;
  SmallExperiment small;
};

TEST_F(ExperimentReportTest, HoldsEverySectionWithNumbersOverFolds) {
  const auto report = nlohmann::json::parse(experiment_report(db, "small", "json"));
  const auto& sections = report["sections"];
  ASSERT_THAT(sections, SizeIs(10));
  EXPECT_THAT(report["summary"][0].get<std::string>(), HasSubstr("3 folds; held-out, trained: accuracy % 30.00"));
  EXPECT_THAT(report["summary"][1].get<std::string>(), HasSubstr("Left out: 1 not done"));
  EXPECT_THAT(sections[0]["tables"]["settings"].dump(), HasSubstr("model.hidden"));
  EXPECT_THAT(sections[0]["tables"]["settings"].dump(), ::testing::Not(HasSubstr("model.units")));  // no mlp has them
  EXPECT_THAT(sections[1]["tables"]["varied_adaptation"], SizeIs(2));  // ttt.batch_size 4 and 8
  EXPECT_EQ(quantity(sections[2], "dataset", "items")["value"], 90);
  EXPECT_EQ(quantity(sections[2], "dataset", "training items, mean over folds")["value"], "60");
  EXPECT_EQ(sections[3]["tables"]["model"][0]["parameters"], 250);
  EXPECT_EQ(sections[3]["tables"]["model"][0]["parameters per feature"], 50.0);
  EXPECT_THAT(sections[4]["tables"]["settings"].dump(), HasSubstr("train.batch_size"));

  EXPECT_NEAR(quantity(sections[5], "performance", "train loss, final")["mean"].get<double>(), 1.1, 1e-12);
  EXPECT_NEAR(quantity(sections[5], "performance", "validation, best: accuracy %")["mean"].get<double>(), 70, 1e-9);
  const auto final_accuracy = quantity(sections[5], "performance", "validation, final: accuracy %");
  EXPECT_NEAR(final_accuracy["mean"].get<double>(), 67, 1e-9);
  EXPECT_NEAR(final_accuracy["sd"].get<double>(), 1, 1e-9);
  EXPECT_EQ(final_accuracy["folds"], 3);
  EXPECT_NEAR(quantity(sections[6], "dynamics", "training time, s")["mean"].get<double>(), 5, 1e-12);
  EXPECT_NEAR(quantity(sections[6], "dynamics", "mean epoch time, s")["mean"].get<double>(), 0.5, 1e-12);
  EXPECT_NEAR(quantity(sections[6], "dynamics", "gradient norm, mean")["mean"].get<double>(), 49.0 / 20, 1e-12);
  EXPECT_NEAR(quantity(sections[6], "dynamics", "gradient norm, largest")["mean"].get<double>(), 30, 1e-12);
  EXPECT_NEAR(quantity(sections[6], "dynamics", "wall time of the fit's attempts, s")["mean"].get<double>(), 6, 1e-12);
  EXPECT_NEAR(
      quantity(sections[7], "overfitting", "train-validation gap, final, accuracy points")["mean"].get<double>(), 23,
      1e-9);
  EXPECT_NEAR(
      quantity(sections[7], "overfitting", "train-validation gap, largest, accuracy points")["most"].get<double>(), 24,
      1e-9);
  EXPECT_THAT(sections[7]["sentences"][0].get<std::string>(), HasSubstr("overfitting; "));
  EXPECT_NEAR(quantity(sections[8], "insights", "lr reduction factor")["mean"].get<double>(), 10, 1e-9);
  EXPECT_NEAR(quantity(sections[8], "insights", "train loss, first to best %")["mean"].get<double>(), 45, 1e-9);
}

TEST_F(ExperimentReportTest, RecommendsOnlyWhatWasMeasured) {
  const auto report = nlohmann::json::parse(experiment_report(db, "small", "json"));
  const auto& findings = report["sections"][9]["findings"];
  std::string all;
  for (const auto& finding : findings) all += finding["statement"].get<std::string>() + "\n";
  EXPECT_THAT(all,
              HasSubstr("Overfitting: train-validation gap, final, accuracy points: mean 23 (threshold 5 points)"));
  EXPECT_THAT(all, HasSubstr("fell by 15.3846 % over the last fifth of the epochs (threshold 5 %)"));
  EXPECT_THAT(all, HasSubstr("lowest at 33.3333 % of the training (threshold 67 %) and ended 25 % higher"));
  EXPECT_THAT(all, HasSubstr("times the mean of 2.45 (threshold 10 times)"));
  EXPECT_THAT(all, HasSubstr("At chance: the held-out accuracy is 30 %"));
  EXPECT_THAT(all, ::testing::Not(HasSubstr("Noisy")));
}

TEST(ExperimentRecommendations, AHealthyConfigurationGetsNone) {
  MeasuredConfiguration measured;
  measured.folds = 3;
  measured.specification = R"({"train": {"epochs": 20, "batch_size": 32, "clip_norm": 1.0}})";
  measured.data.classes = 3;
  measured.data.label_kind = "sample";
  measured.data.test_n = {30, 30, 30};
  measured.measures = {{Topic::overfitting, "train-validation gap, final, accuracy points", 2, {0.2, -0.4, 0.3}},
                       {Topic::insights, "train loss, fall over the last fifth %", 2, {0.5, 1, 0.7}},
                       {Topic::insights, "best validation loss at % of the training", 0, {100, 95, 100}},
                       {Topic::performance, "validation, final: nll", 4, {0.50, 0.51, 0.52}},
                       {Topic::performance, "validation, best: nll", 4, {0.50, 0.50, 0.52}},
                       {Topic::dynamics, "gradient norm, mean", 4, {1, 1, 1}},
                       {Topic::dynamics, "gradient norm, largest", 4, {30, 3, 4}},
                       {Topic::dynamics, "batch-loss coefficient of variation", 4, {0.1, 0.2, 0.1}},
                       {Topic::performance, "held-out, trained: accuracy %", 2, {80, 82, 81}}};
  EXPECT_THAT(recommendations(measured), IsEmpty());
  EXPECT_THAT(overfitting_status(measured), HasSubstr("none seen"));
  measured.measures[0].folds = {2.0, 2.1, 2.2};  // small, but all folds show it
  EXPECT_THAT(recommendations(measured), SizeIs(1));
  EXPECT_THAT(overfitting_status(measured), HasSubstr("beyond the spread"));
}

TEST_F(ExperimentReportTest, EveryFormatAndEveryMistake) {
  const std::string text = experiment_report(db, "small", "text");
  for (const char* heading :
       {"1. Configuration", "2. TTT configuration", "3. Dataset", "4. Model", "5. Training configuration",
        "6. Performance", "7. Training dynamics", "8. Overfitting", "9. Insights", "10. Recommendations"})
    EXPECT_THAT(text, HasSubstr(heading));
  EXPECT_THAT(experiment_report(db, "small", "csv"), HasSubstr("# performance"));
  EXPECT_THAT(experiment_report(db, "small", "markdown"), HasSubstr("```yaml"));
  EXPECT_THAT(error_of([&] { experiment_report(db, "nothing", "text"); }), HasSubstr("no experiment 'nothing'"));
  const SmallExperiment fresh("ttt.batch_size: [4]", "fresh");
  Store::open(db).register_plan(fresh.experiment, fresh.plan);
  EXPECT_THAT(error_of([&] { experiment_report(db, "fresh", "text"); }), HasSubstr("no finished trial"));
}

}  // namespace
}  // namespace tenfold

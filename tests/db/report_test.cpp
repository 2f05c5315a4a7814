#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "db/report_document.h"
#include "db/report_ttt_loss.h"
#include "db/results_table.h"
#include "db/status.h"
#include "db/text_table.h"
#include "tests/db/filled_store.h"
#include "tests/db/store_fixture.h"

namespace tenfold {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr double kT2 = 4.302652729749464;  // 97.5 % quantile, 2 degrees of freedom

class ReportTest : public ::testing::Test {
 protected:
  ReportTest() : db(folder / "a.db") { fill_store(db); }

  nlohmann::json report(const std::string& name, std::optional<std::string> against = std::nullopt, int interval = 10) {
    return nlohmann::json::parse(ttt_loss_report(db, name, against, interval, "json"));
  }
  // The row of a table whose cells have these values.
  static nlohmann::json row_of(const nlohmann::json& report, std::size_t section, const std::string& table,
                               const nlohmann::json& where) {
    for (const auto& row : report["sections"][section]["tables"][table]) {
      bool all = true;
      for (const auto& [key, value] : where.items()) all = all && row.contains(key) && row[key] == value;
      if (all) return row;
    }
    ADD_FAILURE() << "no row " << where << " in " << table << ": " << report["sections"][section]["tables"][table];
    return nlohmann::json::object();
  }
  std::string label(int c) const { return SmallExperiment().experiment.configurations()[c].label; }

  TemporaryFolder folder;
  std::filesystem::path db;
};

TEST_F(ReportTest, PerFoldShowsFirstLastAndTheStepsBetween) {
  const auto whole = report("small");
  EXPECT_EQ(whole["sections"][0]["tables"]["per_fold"].size(), 2u * 3 * 2);  // steps 0 and 3
  const auto fine = report("small", std::nullopt, 2);
  EXPECT_EQ(fine["sections"][0]["tables"]["per_fold"].size(), 2u * 3 * 3);  // 0, 2, 3
  const auto row = row_of(fine, 0, "per_fold", {{"configuration", label(1)}, {"fold", 2}, {"step", 2}});
  EXPECT_NEAR(row["entropy"].get<double>(), 1.2 - 0.4 - 0.1, 1e-12);
  EXPECT_NEAR(row["diversity"].get<double>(), 0.3, 1e-12);
  EXPECT_NEAR(row["total"].get<double>(), 0.7 + 0.15 * 0.3, 1e-12);
}

TEST_F(ReportTest, AveragesAndReductions) {
  const auto whole = report("small");
  // Averages over the folds 0, 1, 2 of configuration 0: entropy 1.1 - 0.2 s, diversity 0.4 - 0.05 s.
  const auto last = row_of(whole, 1, "averages", {{"configuration", label(0)}, {"step", 3}});
  const double first_total = 1.1 + 0.15 * 0.4, last_total = 0.5 + 0.15 * 0.25;
  EXPECT_EQ(last["folds"], 3);
  EXPECT_NEAR(last["total"].get<double>(), last_total, 1e-12);
  EXPECT_NEAR(last["change of total %"].get<double>(), 100 * (last_total / first_total - 1), 1e-10);
  const auto entropy = row_of(whole, 2, "reductions", {{"configuration", label(0)}, {"quantity", "entropy"}});
  EXPECT_NEAR(entropy["reduction %"].get<double>(), 100 * 0.6 / 1.1, 1e-10);
  EXPECT_NEAR(entropy["change per step"].get<double>(), -0.2, 1e-12);
  const auto diversity = row_of(whole, 2, "reductions", {{"configuration", label(1)}, {"quantity", "diversity"}});
  EXPECT_NEAR(diversity["reduction %"].get<double>(), 37.5, 1e-10);
}

TEST_F(ReportTest, ComparesPairedByFoldWithTheCorrectedInterval) {
  const auto compared = report("small/" + label(0), label(1));
  const auto side = row_of(compared, 3, "side_by_side", {{"quantity", "entropy"}});
  EXPECT_NEAR(side["reduction %"].get<double>(), 100 * 0.6 / 1.1, 1e-10);
  EXPECT_NEAR(side["against: reduction %"].get<double>(), 100 * 0.75 / 1.1, 1e-10);
  // The last entropies differ by 0.15 on every fold: no spread, so no test.
  const auto entropy = row_of(compared, 3, "paired_differences", {{"quantity", "entropy, last"}});
  EXPECT_NEAR(entropy["difference"].get<double>(), 0.15, 1e-12);
  EXPECT_TRUE(entropy["95 % low"].is_null());
  // Accuracy in points: 0, -3 + 20, -6 on the folds 0, 1, 2.
  const auto accuracy = row_of(compared, 3, "paired_differences", {{"quantity", "accuracy % after"}});
  const double mean = 11.0 / 3;
  const double sd = std::sqrt((mean * mean + (17 - mean) * (17 - mean) + (6 + mean) * (6 + mean)) / 2);
  const double half = kT2 * std::sqrt(1.0 / 3 + 30.0 / 60) * sd;
  EXPECT_NEAR(accuracy["difference"].get<double>(), mean, 1e-10);
  EXPECT_NEAR(accuracy["95 % low"].get<double>(), mean - half, 1e-8);
  EXPECT_NEAR(accuracy["95 % high"].get<double>(), mean + half, 1e-8);
  EXPECT_EQ(accuracy["folds"], 3);
  // Diversity free of the batch's bias is 1 - h = diversity - 0.01.
  const auto corrected = row_of(compared, 3, "paired_differences", {{"quantity", "diversity, batch-corrected, last"}});
  EXPECT_NEAR(corrected["this"].get<double>(), 0.24, 1e-12);
  // Two configurations of one experiment compare themselves.
  EXPECT_EQ(report("small")["sections"][3]["tables"]["paired_differences"],
            compared["sections"][3]["tables"]["paired_differences"]);
}

TEST_F(ReportTest, ConvergenceAndCollapse) {
  const auto whole = report("small");
  const auto row = row_of(whole, 4, "convergence", {{"configuration", label(0)}});
  EXPECT_EQ(row["falling steps %"], 100.0);
  EXPECT_EQ(row["at the end"], "too short");
  EXPECT_NEAR(row["noise"].get<double>(), 0, 1e-12);
  const auto collapse = row_of(whole, 4, "collapse", {{"configuration", label(0)}});
  const auto terms = row_of(whole, 4, "terms", {{"configuration", label(0)}});
  EXPECT_EQ(terms["opposed steps %"], 0.0);
  EXPECT_NEAR(terms["w"].get<double>(), 0.15, 1e-12);
  EXPECT_NEAR(collapse["lowest h"].get<double>(), 0.61, 1e-12);
  EXPECT_EQ(collapse["folds h < 0.8"], 3);
  const auto bias = row_of(whole, 4, "batch_bias", {{"configuration", label(0)}});
  EXPECT_NEAR(bias["bound"].get<double>(), 2.0 / (2 * 4 * std::log(3.0)), 1e-12);
  EXPECT_NEAR(bias["difference"].get<double>(), 0.01, 1e-12);
}

TEST_F(ReportTest, WhatItBrought) {
  const auto whole = report("small");
  const auto row = row_of(whole, 5, "brought", {{"configuration", label(0)}, {"metric", "accuracy %"}});
  // Changes of 10, 9 and 8 points: mean 9, sd 1.
  EXPECT_NEAR(row["change"].get<double>(), 9, 1e-10);
  EXPECT_NEAR(row["95 % low"].get<double>(), 9 - kT2 * std::sqrt(1.0 / 3 + 0.5), 1e-8);
  EXPECT_EQ(row["folds better"], 3);
  const auto nll = row_of(whole, 5, "brought", {{"configuration", label(1)}, {"metric", "nll"}});
  EXPECT_EQ(nll["folds better"], 2);  // lower is better
}

TEST_F(ReportTest, EveryFormatRenders) {
  const std::string text = ttt_loss_report(db, "small", std::nullopt, 10, "text");
  EXPECT_THAT(text, AllOf(HasSubstr("1. Losses per fold"), HasSubstr("6. What it brought"), HasSubstr("+9.00")));
  EXPECT_THAT(ttt_loss_report(db, "small", std::nullopt, 10, "markdown"),
              AllOf(HasSubstr("## 2. Averages"), HasSubstr("|---:|")));
  EXPECT_THAT(ttt_loss_report(db, "small", std::nullopt, 10, "csv"),
              HasSubstr("# per_fold\nconfiguration,repeat,fold,step,total"));
  EXPECT_THAT(error_of([&] { ttt_loss_report(db, "small", std::nullopt, 10, "pdf"); }), HasSubstr("markdown"));
  EXPECT_THAT(error_of([&] { ttt_loss_report(db, "smal", std::nullopt, 10, "text"); }), HasSubstr("it has: small"));
  EXPECT_THAT(error_of([&] { ttt_loss_report(db, "small/none", std::nullopt, 10, "text"); }), HasSubstr(label(0)));
  EXPECT_THAT(error_of([&] { ttt_loss_report(db, "small", "none", 10, "text"); }),
              AllOf(HasSubstr("it has: small"), HasSubstr("to compare with: " + label(0))));
}

TEST(ReportCellTest, SignsOnlyWhatIsNotShownAsZero) {
  EXPECT_EQ(Cell::signed_number(0.004, 2).text(), "0.00");
  EXPECT_EQ(Cell::signed_number(-0.004, 2).text(), "0.00");
  EXPECT_EQ(Cell::signed_number(0.006, 2).text(), "+0.01");
  EXPECT_EQ(Cell::signed_number(-0.006, 2).text(), "-0.01");
}

TEST_F(ReportTest, ComparesTwoExperimentsLabelByLabel) {
  fill_store(db, "again");
  const auto compared = report("small", "again");
  EXPECT_EQ(compared["sections"][3]["tables"]["side_by_side"].size(), 2u * 4);
  const auto row = row_of(compared, 3, "paired_differences", {{"quantity", "total, last"}});
  EXPECT_NEAR(row["difference"].get<double>(), 0, 1e-15);
}

TEST_F(ReportTest, TheResultTableTellsWhatAdaptationDid) {
  const std::string table = results_table(db, "small");
  EXPECT_THAT(table, AllOf(HasSubstr("6 of 6 trials done"), HasSubstr("62.0 ± 2.0"), HasSubstr("71.0 ± 1.0 *"),
                           HasSubstr("+9.0 [+5.1, +12.9]"), HasSubstr("1.100 -> 0.500"), HasSubstr("0.400 -> 0.250"),
                           HasSubstr("Nadeau")));
  std::istringstream lines(table);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(display_width(line), 112u) << line;
}

TEST(ResultTableTest, CountsWhatIsNotDone) {
  TemporaryFolder folder;
  fill_store(folder / "a.db", "small", 2);
  EXPECT_THAT(results_table(folder / "a.db", "small"), AllOf(HasSubstr("4 of 6 trials done"), HasSubstr("1/3")));
}

TEST(ResultTableTest, LongLabelsBecomeColumnsOrNumbers) {
  TemporaryFolder folder;
  const SmallExperiment wide(
      "ttt.batch_size: [4, 8], ttt.lr: [1e-5, 1e-4, 1e-3], ttt.optimizer.weight_decay: [0, 0.125], ttt.parameters: "
      "[norm, all]",
      "wide");
  Store::open(folder / "a.db").register_plan(wide.experiment, wide.plan);
  const std::string table = results_table(folder / "a.db", "wide");
  std::istringstream lines(table);
  for (std::string line; std::getline(lines, line);)
    if (line.find(wide.experiment.configurations()[0].label) == std::string::npos) {
      EXPECT_LE(display_width(line), 120u) << line;
    }
}

TEST(StatusTest, CountsAndShowsWhatRuns) {
  TemporaryFolder folder;
  const std::filesystem::path db = folder / "a.db";
  fill_store(db, "small", 2);
  Store store = Store::open(db);
  const SmallExperiment small;
  const RegisteredPlan plan = store.register_plan(small.experiment, small.plan);
  store.begin();
  store.begin_attempt({UnitKind::trial, plan.trials[4].id, 1, 2, "node1", 42, "cpu", 1, "run.log", -1});
  store.add_rows(plan.trials[4].id, std::vector{ttt_row(0, 0.9, 0.4), ttt_row(1, 0.8, 0.3)});
  store.commit();
  const auto all = read_status(db);
  ASSERT_EQ(all.size(), 1u);
  const ExperimentStatus& status = all[0];
  EXPECT_EQ(status.name, "small");
  EXPECT_EQ(status.configurations, 2);
  EXPECT_EQ(status.fits.done, 1);  // the parameters of two were given up, and their last trials want them again
  EXPECT_EQ(status.fits.pending, 2);
  EXPECT_EQ(status.trials.done, 4);
  EXPECT_EQ(status.trials.running, 1);
  EXPECT_EQ(status.trials.pending, 1);
  EXPECT_EQ(status.failed_attempts, 1);
  ASSERT_EQ(status.running.size(), 1u);
  EXPECT_EQ(status.running[0].host, "node1");
  EXPECT_EQ(status.running[0].step, 1);
  EXPECT_EQ(status.running[0].label, small.experiment.configurations()[1].label);
  EXPECT_EQ(status.latest_step, 1);
  EXPECT_DOUBLE_EQ(status.entropy, 0.8);
  EXPECT_NEAR(status.updates_per_s, 1000, 1);
  EXPECT_DOUBLE_EQ(status.loss, 1.0 / 12);
  EXPECT_THAT(status.started_at, HasSubstr("T"));
  EXPECT_THAT(status.last_commit_at, HasSubstr("Z"));
  EXPECT_EQ(read_status(db, "small").size(), 1u);
  EXPECT_THAT(error_of([&] { read_status(db, "other"); }), HasSubstr("it has: small"));
}

}  // namespace
}  // namespace tenfold

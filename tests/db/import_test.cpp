#include "db/import_ttt_steps.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "db/report_ttt_loss.h"
#include "db/run_lock.h"
#include "tests/db/store_fixture.h"

namespace tenfold {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ImportTest : public ::testing::Test {
 protected:
  ImportSummary import(const std::string& text, const std::string& name = "old") {
    std::ofstream(folder / "steps.csv", std::ios::binary) << text;
    return import_ttt_steps(folder / "a.db", folder / "steps.csv", name);
  }
  TemporaryFolder folder;
};

const char* const kGood =
    "\xef\xbb\xbf"
    "configuration,fold,step,total,entropy,diversity,note\r\n"
    "\"batch 32, slow\",0,0,0.660,0.600,0.400,x\r\n"
    "\"batch 32, slow\",0,10,0.545,0.500,0.300,x\r\n"
    "\"batch 32, slow\",1,0,0.760,0.700,0.400,x\r\n"
    "\"batch 32, slow\",1,10,0.645,0.600,0.300,x\r\n"
    "batch 64,0,0,0.645,0.600,0.300,x\r\n"
    "batch 64,0,10,0.530,0.500,0.200,x\r\n"
    "\r\n"
    "batch 64,1,0,0.745,0.700,0.300,x\r\n"
    "batch 64,1,10,6.3e-1,0.600,0.200,x";

TEST_F(ImportTest, GivesTheSameReport) {
  const ImportSummary summary = import(kGood);
  EXPECT_EQ(summary.configurations, 2);
  EXPECT_EQ(summary.trials, 4);
  EXPECT_EQ(summary.rows, 8);
  EXPECT_THAT(summary.flagged, IsEmpty());
  EXPECT_THAT(summary.ignored_columns, ElementsAre("note"));
  const auto report = nlohmann::json::parse(ttt_loss_report(folder / "a.db", "old", std::nullopt, 10, "json"));
  const auto& row = report["sections"][2]["tables"]["reductions"][0];
  EXPECT_EQ(row["configuration"], "batch 32, slow");
  EXPECT_NEAR(row["reduction %"].get<double>(), 100 * (0.71 - 0.595) / 0.71, 1e-10);
  EXPECT_THAT(ttt_loss_report(folder / "a.db", "old/batch 64", "batch 32, slow", 10, "text"),
              HasSubstr("batch 64 minus batch 32, slow"));
}

TEST_F(ImportTest, AFoldThatEndsEarlyIsNoSlope) {
  std::string text = "fold,step,total,entropy,diversity\n";
  for (int step = 0; step < 15; ++step) text += "0," + std::to_string(step) + ",1,1,0\n";
  for (int step = 0; step < 16; ++step) text += "1," + std::to_string(step) + ",2,2,0\n";
  import(text);
  const auto report = nlohmann::json::parse(ttt_loss_report(folder / "a.db", "old", std::nullopt, 10, "json"));
  const auto& row = report["sections"][4]["tables"]["convergence"][0];
  EXPECT_EQ(row["last fifth slope"], 0.0);  // the average of both is 1.5 throughout; the last step has only the 2
  EXPECT_EQ(row["at the end"], "level");
}

TEST_F(ImportTest, FlagsRowsWithTheWeightThatFits) {
  const ImportSummary summary = import(
      "fold,step,total,entropy,diversity\n"
      "0,0,0.700,0.600,0.400\n"  // 0.25
      "0,1,0.6251,0.5500,0.3004\n"
      "0,2,0.9,0.500,0.300\n");  // neither
  ASSERT_EQ(summary.flagged.size(), 1u);
  EXPECT_EQ(summary.flagged[0].rows, 3);
  EXPECT_EQ(summary.flagged[0].first_line, 2);
  EXPECT_DOUBLE_EQ(summary.flagged[0].best_weight, 0.25);
  EXPECT_EQ(summary.flagged[0].unexplained, 1);
  EXPECT_THAT(describe(summary), AllOf(HasSubstr("w = 0.25 fits best"), HasSubstr("3 rows")));
  EXPECT_THAT(rows_of(folder / "a.db", "SELECT kind FROM event"), ElementsAre("import"));
  EXPECT_THAT(rows_of(folder / "a.db", "SELECT diversity_weight FROM ttt_step"), ElementsAre("0.25", "0.25", ""));
  EXPECT_THAT(ttt_loss_report(folder / "a.db", "old", std::nullopt, 10, "text"),
              HasSubstr("In 1 of 3 rows the total is not"));
}

TEST_F(ImportTest, RoundingIsNoDisagreement) {
  EXPECT_THAT(import("fold,step,total,entropy,diversity\n0,0,0.66,0.60,0.43\n0,1,0.6,0.6,0.2\n").flagged, IsEmpty());
}

TEST_F(ImportTest, NamesFileAndLineOfWhatIsWrong) {
  const std::string header = "fold,step,total,entropy,diversity\n";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "steps.csv:1: is empty"},
      {header, "steps.csv:1: has a header and no rows"},
      {"fold,step,total,entropy\n0,0,1,1\n", "no column 'diversity'"},
      {"fold,fold,step,total,entropy,diversity\n", "'fold' twice"},
      {header + "0,0,1,1\n", "steps.csv:2: has 4 cells"},
      {header + "0,0,1,1,1\n0,x,1,1,1\n", "steps.csv:3: step is 'x'"},
      {header + "-1,0,1,1,1\n", "fold is '-1'"},
      {header + "0,0,nan,1,1\n", "total is 'nan'"},
      {header + "0,0,1e999,1,1\n", "total is '1e999'"},
      {header + "0,0,1.2.3,1,1\n", "total is '1.2.3'"},
      {header + "0,0,1,1,1\n0,0,1,1,1\n", "steps.csv:3: step 0 of fold 0 is there already, in line 2"},
      {header + "\"0,0,1,1,1\n", "quote"},
      {header + std::string("0,0,1,1,1\0\n", 11), "zero byte"},
      {std::string(2 << 20, 'x'), "longer than 1 MiB"},
  };
  for (const auto& [text, expected] : cases)
    EXPECT_THAT(error_of([&, &text = text] { import(text); }), HasSubstr(expected));
  EXPECT_FALSE(std::filesystem::exists(folder / "a.db")) << "nothing was created for a file that is wrong";
  EXPECT_THAT(error_of([&] { import_ttt_steps(folder / "a.db", folder / "none.csv", "x"); }),
              HasSubstr("cannot be opened"));
}

TEST_F(ImportTest, KeepsNamesApartAndTakesTheRunLock) {
  import(kGood);
  EXPECT_THAT(error_of([&] { import(kGood); }), HasSubstr("already"));
  EXPECT_EQ(integer_of(folder / "a.db", "SELECT count(*) FROM ttt_step"), 8);
  const SmallExperiment small("ttt.batch_size: [4]", "old");
  Store store = Store::open(folder / "a.db");
  EXPECT_THAT(error_of([&] { store.register_plan(small.experiment, small.plan); }), HasSubstr("another name"));
  const RunLock lock = RunLock::acquire(folder / "a.db");
  EXPECT_THAT(error_of([&] { import(kGood, "new"); }), HasSubstr("is held by"));
}

}  // namespace
}  // namespace tenfold

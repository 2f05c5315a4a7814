#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "db/experiment_report_data.h"
#include "db/inner_loop_data.h"
#include "db/inner_loop_report.h"
#include "tests/db/store_fixture.h"

namespace tenfold {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

DatasetSummary text_summary(const ExperimentSpec& spec) {
  DatasetSummary summary = synthetic_summary(spec);
  summary.kind = SampleKind::tokens;
  summary.label_kind = LabelKind::next_token;
  summary.sample_shape = {1};
  summary.classes = 256;
  summary.steps = 90 * 64;
  summary.shortest = summary.longest = 64;
  for (SplitSummary& split : summary.splits) split.epoch_n = split.train_n;
  return summary;
}

// Two configurations of a language model with gated TTT layers, on three folds.
struct TextExperiment {
  TextExperiment()
      : experiment(Experiment::parse(
            "name: text\ndataset: {kind: text, path: a.txt, sequence_length: 64}\nfolds: {kind: kfold, k: 3}\n"
            "model: {kind: transformer_lm, layers: 4, ttt: {layers: all, base_lr: 0.1, mini_batch_size: 8, gate_init: "
            "0.1}}\ntrain: {epochs: 1, batch_size: 8}\nttt: {method: source}\nmetrics: [nll]\n"
            "diagnostics: {inner_loss: {every: 1, max_positions: 48}}\nsweep: {model.ttt.base_lr: [0.1, 0.2]}\n",
            "text.yaml")),
        plan(make_plan(experiment, text_summary)) {}
  Experiment experiment;
  Plan plan;
};

// Layer 1 learns; layer 2's curves lie on each other and its gate never moved.
void record(Store& store, RowId fit, RowId trial, std::int64_t positions, double fold) {
  store.begin();
  const RowId training = store.begin_attempt({UnitKind::fit, fit, 1, 1, "host", 1, "cpu", 0, "log", -1});
  const double initial = std::tanh(0.1);
  store.add_rows(UnitKind::fit, fit,
                 std::vector<GateRow>{{0, initial, initial, initial, 1, 0}, {0, initial, initial, initial, 2, 0}});
  store.add_rows(UnitKind::fit, fit,
                 std::vector<GateRow>{{30, 0.2, 0.1, 0.3, 1, 0}, {30, initial, initial, initial, 2, 0}});
  store.add_checkpoint({UnitKind::fit, fit, training, {"fit" + std::to_string(fit), 0, 30, "sha", 10}, 2, 30});
  store.finish_attempt({training, TrialStatus::done, TrialStatus::done, "", 1, 1});
  const RowId attempt = store.begin_attempt({UnitKind::trial, trial, 1, 1, "host", 1, "cpu", 0, "log", -1});
  std::vector<InnerLossRow> rows;
  std::vector<PositionLossRow> losses;
  for (std::int64_t t = 0; t < positions; ++t) {
    const double l0 = 0.8 + 0.1 * fold, lprev = t < 8 ? l0 : l0 - 0.005 * static_cast<double>(t);
    rows.push_back({0, t, l0, lprev, 0.9 * lprev, 1, Phase::after, {}});
    rows.push_back({0, t, 0.5, 0.5, 0.5, 2, Phase::after, {}});
    losses.push_back({0, t, 3 - 0.02 * static_cast<double>(t), 10, 0, Phase::after, {}});
  }
  store.add_rows(UnitKind::trial, trial, rows);
  store.add_rows(UnitKind::trial, trial, losses);
  store.finish_attempt({attempt, TrialStatus::done, TrialStatus::done, "", 1, 1});
  store.commit();
}

class DiagnoseTest : public ::testing::Test {
 protected:
  DiagnoseTest() : db(folder / "a.db") {
    Store store = Store::open(db);
    plan = store.register_plan(text.experiment, text.plan);
    for (std::size_t i = 0; i < 3; ++i)
      record(store, plan.fits[static_cast<std::size_t>(text.plan.trials[i].fit)].id, plan.trials[i].id, 48,
             static_cast<double>(i));
  }
  TemporaryFolder folder;
  std::filesystem::path db;
  TextExperiment text;
  RegisteredPlan plan;
};

TEST_F(DiagnoseTest, AveragesTheFoldsOfAConfiguration) {
  const auto subjects = load_inner_loops(db, {"text", {}, {}});
  ASSERT_THAT(subjects, SizeIs(1));  // the other configuration has no finished trial
  const InnerLoopSubject& subject = subjects[0];
  EXPECT_EQ(subject.name, "base_lr=0.1");
  EXPECT_THAT(subject.sentences, ElementsAre(HasSubstr("3 trials, averaged; phase 'after', step 0")));
  EXPECT_EQ(subject.model.kind, "transformer_lm");
  EXPECT_EQ(subject.model.max_positions, 48);
  EXPECT_EQ(subject.model.base_lr, 0.1);
  EXPECT_THAT(subject.model.position_loss, SizeIs(48));
  ASSERT_THAT(subject.layers, SizeIs(2));
  const InnerLoopLayer& layer = subject.layers[0];
  EXPECT_EQ(layer.layer, 1);
  EXPECT_EQ(layer.mini_batch_size, 8);
  EXPECT_THAT(layer.curves.l0, SizeIs(48));
  EXPECT_NEAR(layer.curves.l0[0], 0.9, 1e-12);
  EXPECT_NEAR(layer.gate_mean, 0.2, 1e-12);
  EXPECT_NEAR(layer.gate_initial, std::tanh(0.1), 1e-12);
  EXPECT_TRUE(layer.trained);
}

TEST_F(DiagnoseTest, TheReportNamesWhatIsWrongAndWhatToChange) {
  const auto subjects = load_inner_loops(db, {"text", {}, {}});
  const ReportDocument document = inner_loop_report("Inner loop of text", subjects);
  const auto json = nlohmann::json::parse(render(document, "json"));
  EXPECT_THAT(json["summary"].dump(), HasSubstr("layer 1: nothing wrong was found"));
  EXPECT_THAT(json["summary"].dump(), HasSubstr("layer 2: gate_unmoved (warning), overlap"));
  EXPECT_NEAR(json["sections"][0]["tables"]["curves"][0]["mean"].get<double>(), 0.9, 1e-12);
  EXPECT_EQ(json["sections"][1]["findings"].size(), 2u);
  EXPECT_THAT(json["sections"][1]["findings"][1]["yaml"].get<std::string>(),
              HasSubstr("sweep: {model.ttt.base_lr: [0.3, 1, 3]}"));
  const std::string report = render(document, "text");
  for (const char* part : {"Positions covered: 48 / 48, from 0 to 47.", "positions out of order", "Likely causes:",
                           "sweep: {model.ttt.base_lr", "slope per 1,000 positions", "problem overlap"})
    EXPECT_THAT(report, HasSubstr(part));
  EXPECT_THAT(render(document, "markdown"), HasSubstr("```yaml"));
}

// A specification in a store from elsewhere; brackets without end would end the program, not the list.
TEST(StoredSpecification, IsReadOnlyAsDeepAsOursAre) {
  const std::string deep = std::string(3'000'000, '[') + std::string(3'000'000, ']');
  const std::string hostile = R"({"model": {"kind": "ttt_lm", "ttt": {"kind": )" + deep + "}}}";
  EXPECT_EQ(inner_loop_model(hostile).kind, "");
  EXPECT_THAT(settings_of(hostile, "model"), testing::IsEmpty());
  EXPECT_EQ(inner_loop_model(R"({"model": {"kind": "ttt_lm", "note": "[[\"{"}})").kind, "ttt_lm");
  const std::string brackets = R"({"model": {"kind": "ttt_lm", "note": ")" + std::string(100, '[') + "\"}}";
  EXPECT_EQ(inner_loop_model(brackets).kind, "ttt_lm");
}

TEST_F(DiagnoseTest, OneTrialOnly) {
  const auto subjects = load_inner_loops(db, {"text", plan.trials[2].id, {}});
  ASSERT_THAT(subjects, SizeIs(1));
  EXPECT_THAT(subjects[0].name, HasSubstr("fold 2"));
  EXPECT_NEAR(subjects[0].layers[0].curves.l0[0], 1.0, 1e-12);
  const auto without = load_inner_loops(db, {"text", plan.trials[3].id, {}});  // pending: nothing recorded
  EXPECT_THAT(without[0].layers, SizeIs(1));
  EXPECT_THAT(render(inner_loop_report("x", without), "text"), HasSubstr("no_data"));
}

TEST_F(DiagnoseTest, MistakesAreNamed) {
  EXPECT_THAT(error_of([&] { load_inner_loops(db, {"text", 99, {}}); }), HasSubstr("no trial 99"));
  EXPECT_THAT(error_of([&] { load_inner_loops(db, {"text", {}, 7}); }), HasSubstr("no inner losses at step 7"));
  Store::open(db).register_plan(SmallExperiment().experiment, SmallExperiment().plan);
  EXPECT_THAT(error_of([&] { load_inner_loops(db, {"small", {}, {}}); }), HasSubstr("no model with TTT layers"));
}

TEST_F(DiagnoseTest, CheckpointsOfATrialAreFoundByStep) {
  const SavedModel model = saved_model_of_trial(db, "text", plan.trials[0].id, 30);
  EXPECT_EQ(model.checkpoint.filename(), "fit1");
  EXPECT_TRUE(model.checkpoint.is_absolute());
  EXPECT_TRUE(model.of_fit);
  EXPECT_THAT(model.sample_shape, ElementsAre(1));
  EXPECT_EQ(model.classes, 256);
  EXPECT_EQ(nlohmann::json::parse(model.configuration)["model"]["kind"], "transformer_lm");
  EXPECT_THAT(error_of([&] { saved_model_of_trial(db, "text", plan.trials[0].id, 31); }),
              ::testing::AllOf(HasSubstr("there is step 30"), HasSubstr("keep_every_steps")));
  EXPECT_THAT(error_of([&] { saved_model_of_trial(db, "text", plan.trials[3].id, {}); }), HasSubstr("deleted"));

  const auto by_file = saved_model_of_file(checkpoint_folder(db) / "fit2", std::nullopt);
  ASSERT_TRUE(by_file);
  EXPECT_EQ(by_file->fold, 1);
  EXPECT_FALSE(saved_model_of_file(checkpoint_folder(db) / "other", std::nullopt));
  EXPECT_FALSE(saved_model_of_file(folder / "published.safetensors", std::nullopt));
  EXPECT_THAT(error_of([&] { saved_model_of_file(checkpoint_folder(db) / "fit2", 4); }), HasSubstr("no member 4"));
}

}  // namespace
}  // namespace tenfold

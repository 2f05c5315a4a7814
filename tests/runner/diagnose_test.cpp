#include "runner/commands/diagnose.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "db/store.h"
#include "experiments/error.h"
#include "runner/commands/diagnose_plots.h"
#include "trainer/protocol_diagnose.h"

namespace tenfold {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string contents(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

// Sets a variable of the environment for as long as it lives.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    ::setenv(name, value.c_str(), 1);
  }
  ~Variable() {
    if (before_)
      ::setenv(name_, before_->c_str(), 1);
    else
      ::unsetenv(name_);
  }

 private:
  const char* name_;
  std::optional<std::string> before_;
};

class DiagnoseCommand : public ::testing::Test {
 protected:
  DiagnoseCommand() {
    std::string pattern = (fs::temp_directory_path() / "tenfold-diagnose-XXXXXX").string();
    folder = mkdtemp(pattern.data());
    options.db = folder / "a.db";
    options.out = folder / "out put's";
  }
  ~DiagnoseCommand() override { fs::remove_all(folder); }

  // One finished trial whose layer 2 learns.
  std::int64_t write_store() const {
    const Experiment experiment = Experiment::parse(
        "name: text\ndataset: {kind: text, path: a.txt, sequence_length: 64}\nfolds: {kind: kfold, k: 3}\n"
        "model: {kind: transformer_lm, layers: 4, ttt: {layers: all, mini_batch_size: 8}}\n"
        "train: {epochs: 1, batch_size: 8}\nttt: {method: source}\nmetrics: [nll]\n"
        "diagnostics: {inner_loss: {every: 1, max_positions: 64}}\n",
        "text.yaml");
    const Plan plan = make_plan(experiment, [](const ExperimentSpec& spec) {
      DatasetSummary data;
      data.fingerprint = sha256("text");
      data.samples = 30;
      data.sample_shape = {1};
      data.classes = 256;
      data.kind = SampleKind::tokens;
      data.label_kind = LabelKind::next_token;
      data.shortest = data.longest = 64;
      for (int fold = 0; fold < spec.folds.k; ++fold)
        data.splits.push_back({0, fold, sha256("fold " + std::to_string(fold)), 20, 0, 10, 20});
      return data;
    });
    Store store = Store::open(options.db);
    const std::int64_t trial = store.register_plan(experiment, plan).trials[0].id;
    store.begin();
    const RowId attempt = store.begin_attempt({UnitKind::trial, trial, 1, 1, "host", 1, "cpu", 0, "log", -1});
    std::vector<InnerLossRow> rows;
    for (std::int64_t t = 0; t < 64; ++t) {
      const double l0 = 0.8, lprev = t < 8 ? l0 : l0 - 0.005 * static_cast<double>(t);
      rows.push_back({0, t, l0, lprev, 0.9 * lprev, 2, Phase::after, {}});
    }
    store.add_rows(UnitKind::trial, trial, rows);
    store.finish_attempt({attempt, TrialStatus::done, TrialStatus::done, "", 1, 1});
    store.commit();
    return trial;
  }

  // A trainer that answers with this result, or fails.
  fs::path write_trainer(const std::string& script) const {
    const fs::path program = folder / "trainer";
    std::ofstream(program) << "#!/bin/sh\n" << script << "\n";
    fs::permissions(program, fs::perms::owner_all);
    return program;
  }

  int run() { return diagnose_command(options, out, errors); }
  std::string refusal() {
    try {
      run();
    } catch (const Error& error) {
      return error.what();
    }
    ADD_FAILURE() << "no error";
    return "";
  }

  fs::path folder;
  DiagnoseOptions options;
  std::ostringstream out, errors;
};

TEST_F(DiagnoseCommand, WritesReportAndPlotsFromTheStore) {
  write_store();
  options.experiment = "text";
  ASSERT_EQ(run(), kExitDone) << errors.str();
  EXPECT_THAT(out.str(), HasSubstr("layer 2: nothing wrong was found"));
  EXPECT_THAT(contents(options.out / "ttt_diagnostic_report.txt"), HasSubstr("Positions covered: 64 / 64"));
  EXPECT_THAT(contents(options.out / "figure5_layer2.png"), StartsWith("\x89PNG"));
  const std::string svg = contents(options.out / "figure5_layer2.svg");
  for (const char* part : {"<svg", "l0: initial weights", "per-step improvement", "cumulative benefit", "layer 2"})
    EXPECT_THAT(svg, HasSubstr(part));
  EXPECT_THAT(contents(options.out / "figure5_layer2.csv"), HasSubstr("\n63,0.8,"));
  EXPECT_FALSE(fs::exists(options.out / "figure5_layer2.log"));
}

TEST_F(DiagnoseCommand, WithoutGnuplotTheReportIsThereAndTheExitCodeSaysSo) {
  options.trial = write_store();
  options.experiment = "text";
  options.format = "json";
  const Variable path("PATH", folder.string());
  EXPECT_EQ(run(), kExitPlotsMissing);
  EXPECT_THAT(errors.str(), HasSubstr("gnuplot is not installed"));
  EXPECT_THAT(out.str(), StartsWith("{"));
  EXPECT_TRUE(fs::exists(options.out / "ttt_diagnostic_report.txt"));
  EXPECT_TRUE(fs::exists(options.out / "figure5_layer2.gnuplot"));
  EXPECT_FALSE(fs::exists(options.out / "figure5_layer2.png"));
}

TEST_F(DiagnoseCommand, RunsASavedModelThroughTheTrainer) {
  DiagnoseResult result;
  DiagnosedLayer layer;
  layer.layer = 5;
  layer.kind = "mlp";
  layer.mini_batch_size = 4;
  layer.carry_gap = 0.5;
  for (int t = 0; t < 40; ++t) {
    layer.l0.push_back(1.5);
    layer.lprev.push_back(t < 4 ? 1.5 : 1.5 - 0.01 * t);
    layer.lafter.push_back(layer.lprev.back() - 0.1);
  }
  result.layers = {layer};
  result.model.kind = "ttt_lm";
  result.model.layers = 6;
  result.model.stream_length = 40;
  result.model.streams = 1;
  result.model.nll = 2.0;
  result.model.nll_without_ttt = 2.0;
  result.model.kl_without_ttt = 1e-5;
  std::ofstream(folder / "result.json") << encode(result);
  // $2 is the job file; the job names where the result goes.
  const fs::path program = write_trainer(
      "[ \"$1\" = --diagnose ] && [ \"$3\" = --parent-pid ] || exit 2\ncp \"$2\" '" + (folder / "job.json").string() +
      "'\ncp '" + (folder / "result.json").string() + "' \"$(dirname \"$2\")/diagnose_result.json\"");
  const Variable trainer("TENFOLD_TRAINER", program.string());
  std::ofstream(folder / "stream.txt") << "to be";
  std::ofstream(folder / "published.safetensors") << "x";
  options.checkpoint = folder / "published.safetensors";
  options.input = folder / "stream.txt";
  options.max_positions = 77;
  ASSERT_EQ(run(), kExitDone) << errors.str();
  const DiagnoseJob job = decode_diagnose_job(contents(folder / "job.json"));
  EXPECT_EQ(job.checkpoint, options.checkpoint.string());
  EXPECT_EQ(job.input, options.input.string());
  EXPECT_EQ(job.max_positions, 77);
  EXPECT_TRUE(job.configuration.empty());
  const std::string report = contents(options.out / "ttt_diagnostic_report.txt");
  EXPECT_THAT(report, HasSubstr("layer 5: state_not_carried, invisible (warning)"));
  EXPECT_THAT(report, HasSubstr("published.safetensors"));
  EXPECT_TRUE(fs::exists(options.out / "figure5_layer5.svg"));
}

TEST_F(DiagnoseCommand, ATrainerThatFailsSaysWhy) {
  const fs::path program = write_trainer("echo 'tenfold-trainer: data error: no config.json beside it' >&2\nexit 3");
  const Variable trainer("TENFOLD_TRAINER", program.string());
  options.checkpoint = folder;
  options.input = program;
  EXPECT_THAT(refusal(), ::testing::AllOf(HasSubstr("exited with code 3"), HasSubstr("no config.json beside it")));
}

TEST_F(DiagnoseCommand, MistakesOfTheCommandLineAreNamed) {
  EXPECT_THAT(refusal(), HasSubstr("name an experiment"));
  options.checkpoint = folder / "nowhere";
  EXPECT_THAT(refusal(), HasSubstr("there is no such file"));
  options.checkpoint = folder;
  EXPECT_THAT(refusal(), HasSubstr("--input FILE"));
  options.step = 3;
  EXPECT_THAT(refusal(), HasSubstr("--step belongs to a trial"));
  options.step.reset();
  options.device = "tpu";
  EXPECT_THAT(refusal(), HasSubstr("cpu or cuda:N"));
  options.device = "cpu";
  options.checkpoint.clear();
  options.experiment = "text";
  options.trial = write_store();
  options.step = 500;  // nothing recorded there, and no checkpoint kept
  EXPECT_THAT(refusal(), HasSubstr("keep_every_steps"));
}

}  // namespace
}  // namespace tenfold

// Saved models run once more: what a diagnosis measures of them.
#include "trainer/diagnose.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "datasets/dataset.h"
#include "datasets/token_classes.h"
#include "experiments/error.h"
#include "experiments/experiment.h"
#include "tests/trainer/tensors.h"
#include "trainer/checkpoint.h"
#include "trainer/compute.h"
#include "trainer/diagnose_recurrent.h"
#include "trainer/model.h"
#include "ttt/inner_loss.h"

namespace tenfold::testing {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

class SavedModels : public ::testing::Test {
 protected:
  SavedModels() : folder_(fs::temp_directory_path() / ("diagnose-" + std::to_string(::getpid()))) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    spec_.model.kind = "transformer_lm";
    spec_.model.layers = 3;
    spec_.model.width = 16;
    spec_.model.heads = 2;
    spec_.model.feed_forward = 24;
    spec_.model.ttt.kind = "linear";
    spec_.model.ttt.layers = {"0", "2"};
    spec_.model.ttt.base_lr = 1.0;
    spec_.model.ttt.mini_batch_size = 8;
    spec_.model.ttt.gate_init = 0.5;
    spec_.model.ttt.persistent = true;
    text_ = "";
    for (int i = 0; i < 12; ++i) text_ += "what is learned while reading helps later. ";
    std::ofstream(folder_ / "stream.txt") << text_;
  }
  ~SavedModels() override { fs::remove_all(folder_); }

  std::unique_ptr<Model> model() const {
    return make_model(spec_.model, {{1}, 256, SampleKind::tokens, LabelKind::next_token}, false);
  }
  // The second of two members, so that the first is not taken by mistake.
  DiagnoseJob save(const Model& model, const ModelState& state, const std::string& without = "") {
    StackedTensors tensors;
    for (std::size_t i = 0; i < state.parameters.size(); ++i) {
      const std::string& name = model.layout().parameters[i].name;
      if (without.empty() || name.find(without) == std::string::npos)
        tensors["parameter/" + name] = at::cat({at::full_like(state.parameters[i], 7), state.parameters[i]}, 0);
    }
    ArrayJob array;
    array.array = "saved" + std::to_string(++saved_);
    array.checkpoint_folder = folder_.string();
    DiagnoseJob job;
    job.checkpoint = write_checkpoint(array, 5, tensors).path;
    job.array_index = 1;
    job.configuration = to_json(spec_).dump();
    job.sample_shape = {1};
    job.classes = 256;
    job.input = (folder_ / "stream.txt").string();
    job.cache_folder = folder_.string();
    return job;
  }
  at::Tensor tokens(std::int64_t count) const {
    at::Tensor values = at::empty({1, 1, count}, at::kLong);
    for (std::int64_t t = 0; t < count; ++t)
      values.mutable_data_ptr<std::int64_t>()[t] = static_cast<unsigned char>(text_[static_cast<std::size_t>(t)]);
    return values;
  }

  fs::path folder_;
  ExperimentSpec spec_;
  std::string text_;
  int saved_ = 0;
  const std::unique_ptr<Compute> settled_ = make_cpu_compute();
};

TEST_F(SavedModels, AStreamInPiecesIsMeasuredAsAWhole) {
  const auto model = this->model();
  ModelState state = initial_state(model->layout(), 3, 0, 0);
  const DiagnoseResult result = diagnose(save(*model, state));
  const auto length = static_cast<std::int64_t>(text_.size());
  ASSERT_GT(length, 512);  // more than one piece
  InnerLossRecorder recorder({0, 2}, 1, length, at::kCPU);
  ForwardMode mode;
  mode.inner_losses = &recorder;
  const at::Tensor all = tokens(length);
  const at::Tensor logits = model->forward(state, {all, at::ones({1, 1, length}, at::kFloat)}, mode)[0];
  const auto expected = recorder.curves(0);
  ASSERT_EQ(result.layers.size(), 2U);
  for (std::size_t i = 0; i < 2; ++i) {
    const DiagnosedLayer& layer = result.layers[i];
    EXPECT_EQ(layer.layer, expected[i].layer);
    ASSERT_EQ(layer.l0.size(), static_cast<std::size_t>(length));
    for (std::size_t t = 0; t < layer.l0.size(); ++t) {
      EXPECT_NEAR(layer.l0[t], expected[i].l0[t], 1e-4);
      EXPECT_NEAR(layer.lprev[t], expected[i].lprev[t], 1e-4);
      EXPECT_NEAR(layer.lafter[t], expected[i].lafter[t], 1e-4);
    }
    EXPECT_GT(layer.movement_start, 0);
    EXPECT_GT(layer.movement_end, layer.movement_start);
    EXPECT_TRUE(layer.carried);
    EXPECT_NEAR(layer.carry_gap, 0, 1e-9);
    EXPECT_NEAR(layer.gate_mean_abs, std::tanh(0.5), 1e-6);
    EXPECT_GT(layer.kl_without, 0);
  }
  const at::Tensor scores = at::log_softmax(logits.to(at::kDouble), -1).narrow(0, 0, length - 1);
  const at::Tensor target = all[0][0].narrow(0, 1, length - 1).unsqueeze(-1);
  EXPECT_NEAR(result.model.nll, -scores.gather(-1, target).mean().item<double>(), 1e-4);
  EXPECT_EQ(result.model.stream_length, length);
  EXPECT_EQ(result.model.position_loss.size(), static_cast<std::size_t>(length - 1));
  EXPECT_GT(result.model.kl_without_ttt, 0);
  // Each kind of byte has its part of the loss.
  const at::Tensor nll = -scores.gather(-1, target).squeeze(-1);
  const auto classes = token_classes("");
  double share = 0, loss_share = 0;
  for (const DiagnosedTokens& tokens : result.model.token_classes) {
    double sum = 0, count = 0;
    for (std::int64_t t = 0; t + 1 < length; ++t) {
      const auto byte = static_cast<unsigned char>(text_[static_cast<std::size_t>(t) + 1]);
      if (classes.names[classes.of[byte]] != tokens.name) continue;
      sum += nll[t].item<double>();
      ++count;
    }
    ASSERT_GT(count, 0) << tokens.name;
    EXPECT_NEAR(tokens.loss, sum / count, 1e-4) << tokens.name;
    EXPECT_NEAR(tokens.share, count / static_cast<double>(length - 1), 1e-12) << tokens.name;
    EXPECT_NEAR(tokens.loss_share, sum / nll.sum().item<double>(), 1e-4) << tokens.name;
    share += tokens.share;
    loss_share += tokens.loss_share;
  }
  EXPECT_GE(result.model.token_classes.size(), 2U);
  EXPECT_NEAR(share, 1, 1e-12);
  EXPECT_NEAR(loss_share, 1, 1e-12);
}

TEST_F(SavedModels, WithoutALayerIsWithItsGateShut) {
  const auto model = this->model();
  ModelState state = initial_state(model->layout(), 3, 0, 0);
  const DiagnoseResult result = diagnose(save(*model, state));
  const at::Tensor all = tokens(static_cast<std::int64_t>(text_.size()));
  const Batch batch{all, at::ones(all.sizes(), at::kFloat)};
  const at::Tensor with = at::log_softmax(model->forward(state, batch, {})[0].to(at::kDouble), -1);
  for (std::size_t i = 0; i < model->layout().parameters.size(); ++i)
    if (model->layout().parameters[i].name == "model.layers.2.ttt.gate_alpha")
      state.parameters[i] = at::zeros_like(state.parameters[i]);
  const at::Tensor without = at::log_softmax(model->forward(state, batch, {})[0].to(at::kDouble), -1);
  const double kl = (with.exp() * (with - without)).sum(-1).mean().item<double>();
  EXPECT_NEAR(result.layers[1].kl_without, kl, 1e-4 * kl + 1e-9);
  const DiagnoseResult shut = diagnose(save(*model, state));
  EXPECT_EQ(shut.layers[1].gate_mean_abs, 0);
  EXPECT_NEAR(shut.layers[1].kl_without, 0, 1e-12);
}

TEST_F(SavedModels, AStateThatIsDroppedBetweenCallsIsSeen) {
  spec_.model.ttt.persistent = false;
  const auto model = this->model();
  const DiagnoseResult result = diagnose(save(*model, initial_state(model->layout(), 3, 0, 0)));
  for (const DiagnosedLayer& layer : result.layers) {
    EXPECT_FALSE(layer.carried);
    EXPECT_GT(layer.carry_gap, 1e-6);
  }
}

TEST_F(SavedModels, MissingTttWeightsAreNamedAndOthersRefused) {
  const auto model = this->model();
  const ModelState state = initial_state(model->layout(), 3, 0, 0);
  const DiagnoseResult result = diagnose(save(*model, state, "layers.2.ttt."));
  EXPECT_TRUE(result.layers[0].weights_found);
  EXPECT_FALSE(result.layers[1].weights_found);
  ASSERT_FALSE(result.model.missing.empty());
  EXPECT_THAT(result.model.missing.front(), HasSubstr("layers.2.ttt."));
  const DiagnoseJob broken = save(*model, state, "q_proj");
  try {
    diagnose(broken);
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::data);
    EXPECT_THAT(error.what(), HasSubstr("self_attn.q_proj.weight"));
  }
}

TEST_F(SavedModels, PositionsAreBounded) {
  const auto model = this->model();
  DiagnoseJob job = save(*model, initial_state(model->layout(), 3, 0, 0));
  job.max_positions = 100;
  const DiagnoseResult result = diagnose(job);
  EXPECT_EQ(result.model.stream_length, 100);
  EXPECT_EQ(result.layers[0].l0.size(), 100U);
  EXPECT_EQ(result.model.position_loss.size(), 100U);  // the next token is known
}

TEST_F(SavedModels, TheJobIsAFileAndSoIsTheResult) {
  const auto model = this->model();
  DiagnoseJob job = save(*model, initial_state(model->layout(), 3, 0, 0));
  job.output = (folder_ / "result.json").string();
  std::ofstream(folder_ / "job.json") << encode(job);
  run_diagnose_job((folder_ / "job.json").string(), 1);
  std::ifstream stream(job.output);
  const std::string text((std::istreambuf_iterator<char>(stream)), {});
  EXPECT_EQ(decode_diagnose_result(text).layers.size(), 2U);
}

TEST_F(SavedModels, ATttRnnRunsItsFoldAndFeatures) {
  spec_ = {};
  spec_.dataset.kind = "synthetic_sequences";
  spec_.dataset.samples = 40;
  spec_.dataset.features = 6;
  spec_.dataset.classes = 3;
  spec_.dataset.min_steps = 5;
  spec_.dataset.max_steps = 12;
  spec_.dataset.mean_steps = 8;
  spec_.folds.kind = "kfold";
  spec_.folds.k = 4;
  spec_.model.kind = "ttt_rnn";
  spec_.model.units = 8;
  spec_.model.layers = 2;
  spec_.model.ttt.base_lr = 0.05;
  spec_.model.ttt.persistent = true;
  const Dataset dataset = load_dataset(spec_.dataset);
  const auto model = make_model(spec_.model, model_data(dataset), false);
  DiagnoseJob job = save(*model, initial_state(model->layout(), 3, 0, 0));
  job.sample_shape = dataset.sample_shape();
  job.classes = dataset.classes();
  job.fingerprint = dataset.fingerprint().hex();
  write_cached_dataset(dataset, folder_);
  job.input.clear();
  const DiagnoseResult fold = diagnose(job);
  ASSERT_EQ(fold.layers.size(), 2U);
  EXPECT_EQ(fold.model.streams, 10);
  EXPECT_LE(fold.model.stream_length, 12);
  for (const DiagnosedLayer& layer : fold.layers) {
    EXPECT_EQ(layer.kind, "ttt_rnn");
    EXPECT_FALSE(layer.reset_each_step);
    ASSERT_FALSE(layer.l0.empty());
    EXPECT_GT(layer.l0[0], layer.lafter[0]);
  }
  EXPECT_GT(fold.model.nll, 0);
  EXPECT_NE(fold.model.nll, fold.model.nll_without_ttt);

  // An npy file of (9, 6) float32 zeros.
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (9, 6), }";
  header.resize(117, ' ');
  std::ofstream(folder_ / "x.npy", std::ios::binary) << std::string("\x93NUMPY\x01\x00\x76\x00", 10) << header << '\n'
                                                     << std::string(9 * 6 * 4, '\0');
  job.input = (folder_ / "x.npy").string();
  const DiagnoseResult stream = diagnose(job);
  EXPECT_EQ(stream.model.stream_length, 9);
  EXPECT_EQ(stream.layers[1].l0.size(), 9U);
  EXPECT_TRUE(std::isnan(stream.model.nll));
}

TEST(SpreadSamples, TakesAllOfFewAndSomeOfMany) {
  EXPECT_EQ(spread_samples({5, 6, 7}), (std::vector<std::int64_t>{0, 1, 2}));
  const std::vector<std::int64_t> many = spread_samples(std::vector<std::int64_t>(1000, 256));
  EXPECT_LE(static_cast<std::int64_t>(many.size()) * 256, kDiagnosedPositions);
  EXPECT_GE(many.size(), 64U);
  EXPECT_EQ(spread_samples({kDiagnosedPositions * 3}), (std::vector<std::int64_t>{0}));
}

}  // namespace
}  // namespace tenfold::testing

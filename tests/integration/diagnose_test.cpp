// `tenfold diagnose` on models made sick in each way, and on one that is well: what a user reads in
// ttt_diagnostic_report.txt.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <sstream>

#include "datasets/philox.h"
#include "datasets/safetensors.h"
#include "tests/integration/run_process.h"
#include "trainer/ttt_lm_layout.h"

namespace tenfold {
namespace {

namespace fs = std::filesystem;
using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;

constexpr int kVocabulary = 256;
using Values = std::map<std::string, std::vector<float>>;

std::string read(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

// A stream that says the same things again and again.
std::string repetitive_text() {
  const std::vector<std::string> lines = {"the inner model learns while it reads; ", "what was said is said again; ",
                                          "to be or not to be: "};
  std::string text;
  const std::vector<std::int64_t> order = random_permutation(RandomStream(1, Purpose::synthetic, 0, 0, 1), 90);
  for (const std::int64_t i : order) text += lines[static_cast<std::size_t>(i % 3)];
  return text;
}

class Diagnose : public testing::Test {
 protected:
  Diagnose() {
    spec_.kind = "ttt_lm";
    spec_.layers = 2;
    spec_.width = 32;
    spec_.heads = 2;
    spec_.feed_forward = 48;
    spec_.ttt.kind = "linear";
    std::uint64_t site = 0;
    for (const ParameterInfo& info : ttt_lm_layout(spec_, kVocabulary).parameters) {
      std::vector<float>& values = values_[info.name];
      values.resize(static_cast<std::size_t>(info.size()));
      fill_normal(RandomStream(7, Purpose::synthetic, 0, 0, ++site), values);
      const bool norm = info.role == ParameterRole::norm_weight, bias = info.initial.value == 0 && !norm;
      for (float& value : values) value = norm ? 1 : bias ? 0 : value * scale_of(info.name);
    }
    work_.write("stream.txt", repetitive_text());
  }

  // Embeddings that differ, so that an inner model has something to learn from the first mini-batch on.
  static float scale_of(const std::string& name) {
    return name.find("embed_tokens") != std::string::npos ? 1.0F : 0.15F;
  }

  // A published checkpoint of the values that `keep` wants.
  void publish(double base_lr, const std::function<bool(const std::string&)>& keep = {}) const {
    fs::create_directories(work_.file("model"));
    work_.write("model/config.json",
                R"({"model_type": "ttt", "ttt_layer_type": "linear", "num_hidden_layers": 2, "hidden_size": 32,
 "num_attention_heads": 2, "intermediate_size": 48, "vocab_size": 256, "mini_batch_size": 16, "ttt_base_lr": )" +
                    std::to_string(base_lr) + "}");
    std::map<std::string, TensorView> views;
    for (const ParameterInfo& info : ttt_lm_layout(spec_, kVocabulary).parameters)
      if (!keep || keep(info.name))
        views[info.name] = {"F32", info.shape, std::as_bytes(std::span(values_.at(info.name)))};
    write_safetensors(work_.file("model/model.safetensors"), views, {}, false);
  }

  // Keys are of one half of the embedding, values of the other. Tokens come in pairs of one key and opposite values,
  // and W_0 gives what keys tell of the targets v - k: whatever an inner model still learns of a random stream is
  // chance. Layers add nothing to what the next one sees.
  void settle() {
    std::vector<float>& embedding = values_.at("model.embed_tokens.weight");  // (256, 32)
    for (std::size_t i = 0; i < embedding.size(); ++i)
      if (i / 32 % 2 == 1) embedding[i] = i % 32 < 16 ? embedding[i - 32] : -embedding[i - 32];
    for (const char* layer : {"model.layers.0.", "model.layers.1."}) {
      const std::string name = layer, inner = name + "seq_modeling_block.";
      for (const std::string& silent : {inner + "o_proj.weight", name + "mlp.down_proj.weight"})
        std::fill(values_.at(silent).begin(), values_.at(silent).end(), 0.0F);
      for (const auto& [projection, first] :
           {std::pair{"q_proj.weight", 0}, {"k_proj.weight", 0}, {"v_proj.weight", 16}}) {
        std::vector<float>& weight = values_.at(inner + projection);
        for (int out = 0; out < 32; ++out)
          for (int in = 0; in < 32; ++in)
            weight[static_cast<std::size_t>(32 * out + in)] = in == first + out % 16 ? 1 : 0;
      }
      std::vector<float>& w = values_.at(inner + "W1");  // (heads, 16, 16)
      for (std::size_t i = 0; i < w.size(); ++i) w[i] = i % 256 / 16 == i % 16 ? -1 : 0;
    }
  }
  void write_noise() const {
    std::string text(1600, ' ');
    std::vector<float> noise(text.size());
    fill_uniform(RandomStream(5, Purpose::synthetic, 0, 0, 9), noise);
    // 128 letters of ASCII, each as likely as any other at any time.
    for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(128 * noise[i]);
    work_.write("noise.txt", text);
  }

  // The report on the published checkpoint.
  std::string report(const std::string& input = "stream.txt", const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words{"diagnose",
                                   "--checkpoint",
                                   work_.file("model").string(),
                                   "--input",
                                   work_.file(input).string(),
                                   "--out",
                                   work_.file("out").string()};
    words.insert(words.end(), more.begin(), more.end());
    return finished_report(run(words));
  }
  // A whole run under load takes its time.
  Finished run(const std::vector<std::string>& words) const {
    return work_.wait(work_.start(words), std::chrono::seconds(150));
  }
  std::string finished_report(const Finished& finished) const {
    EXPECT_THAT(finished.exit_code, AnyOf(0, plots() ? 0 : 1)) << finished.output;
    return read(work_.file("out/ttt_diagnostic_report.txt"));
  }
  static bool plots() { return std::system("command -v gnuplot > /dev/null 2>&1") == 0; }

  ModelSpec spec_;
  Values values_;
  Workspace work_;
};

TEST_F(Diagnose, AModelWhoseInnerLoopLearnsIsWell) {
  publish(1);
  const std::string text = report();
  for (const char* name : {"overlap", "step_too_large", "state_harms", "explosion", "no_use_of_context",
                           "state_not_carried", "no_ttt_weights", "stream_shorter_than_mini_batch", "no_data"})
    EXPECT_THAT(text, Not(HasSubstr(name)));
  EXPECT_THAT(text, HasSubstr("|W_t - W_0| at the end"));
  EXPECT_THAT(text, HasSubstr("state lost between calls"));
  EXPECT_THAT(text, HasSubstr("KL of the logits without the layer"));
  if (!plots()) GTEST_SKIP() << "gnuplot is not installed, so no plots were drawn";
  for (const char* file : {"figure5_layer0.png", "figure5_layer0.svg", "figure5_layer1.png", "figure5_layer1.svg"})
    EXPECT_GT(fs::file_size(work_.file("out") / file), 1000U) << file;
  EXPECT_THAT(read(work_.file("out/figure5_layer0.svg")), HasSubstr("</svg>"));
}

TEST_F(Diagnose, ARateOf0LeavesTheCurvesOnEachOther) {
  publish(0);
  const std::string text = report();
  EXPECT_THAT(text, HasSubstr("problem overlap"));
  EXPECT_THAT(text, HasSubstr("the fast weights did not move at all"));
}

// Inner models that know all there is to know, and random tokens.
TEST_F(Diagnose, ARateTooHighBreaksTheOrder) {
  settle();
  write_noise();
  publish(60);
  EXPECT_THAT(report("noise.txt"), AnyOf(HasSubstr("problem step_too_large"), HasSubstr("problem state_harms")));
}

TEST_F(Diagnose, ARateFarTooHighExplodes) {
  for (auto& [name, values] : values_)
    if (name.ends_with("ttt_norm_weight"))
      for (float& value : values) value = 40;  // and losses of that scale
  publish(1e6);
  EXPECT_THAT(report(), HasSubstr("problem explosion"));
}

TEST_F(Diagnose, MissingWeightsAreNamed) {
  publish(1, [](const std::string& name) { return name.find("layers.1.seq_modeling_block") == std::string::npos; });
  const std::string text = report();
  EXPECT_THAT(text, HasSubstr("layer 1: no_ttt_weights"));
  EXPECT_THAT(text, HasSubstr("model.layers.1.seq_modeling_block"));
  EXPECT_THAT(text, Not(HasSubstr("layer 0: no_ttt_weights")));
}

TEST_F(Diagnose, AStreamShorterThanAMiniBatch) {
  publish(1);
  work_.write("short.txt", "to be or not");
  EXPECT_THAT(report("short.txt"), HasSubstr("problem stream_shorter_than_mini_batch"));
}

TEST_F(Diagnose, AContextThatTeachesNothing) {
  settle();
  write_noise();
  publish(0.5);
  EXPECT_THAT(report("noise.txt"), HasSubstr("problem no_use_of_context"));
}

TEST_F(Diagnose, WhatCannotBeRunIsExplained) {
  publish(1);
  const auto error = [&](std::vector<std::string> words) {
    words.insert(words.begin(), "diagnose");
    words.insert(words.end(), {"--out", work_.file("out").string()});
    const Finished finished = run(words);
    EXPECT_NE(finished.exit_code, 0);
    return finished.output;
  };
  const std::string model = work_.file("model").string();
  EXPECT_THAT(error({"--checkpoint", model}), HasSubstr("--input"));
  EXPECT_THAT(error({"--checkpoint", model, "--input", work_.file("none").string()}), HasSubstr("no such file"));
  work_.write("latin1.txt", "caf\xe9 au lait");
  EXPECT_THAT(error({"--checkpoint", model, "--input", work_.file("latin1.txt").string()}), HasSubstr("UTF-8"));
  work_.write("model/config.json", "{}");
  EXPECT_THAT(error({"--checkpoint", model, "--input", work_.file("stream.txt").string()}), HasSubstr("config.json"));
}

// Trained trials of the store, whose checkpoints are then made sick.
class DiagnoseTrial : public Diagnose {
 protected:
  void SetUp() override {
    work_.write("x.yaml", R"(name: placed
dataset: {kind: text, path: )" +
                              work_.file("stream.txt").string() + R"(, sequence_length: 64}
folds: {kind: kfold, k: 2}
model:
  {kind: transformer_lm, layers: 2, width: 32, heads: 2, ttt: {kind: linear, layers: last:1, base_lr: 1.0, mini_batch_size: 8}}
train: {steps: 6, batch_size: 4}
ttt: source
metrics: [nll]
checkpoint: {keep_every_steps: 3}
sweep: {model.ttt.persistent: [true, false]}
)");
    const Finished finished =
        run({"run", work_.file("x.yaml").string(), "--db", "a.db", "--slots", "1", "--device", "cpu"});
    ASSERT_EQ(finished.exit_code, 0) << finished.output;
  }
  std::string trial(bool persistent) const {
    const std::string id =
        work_.query("a.db",
                    "SELECT min(t.id) FROM trial t JOIN configuration_parameter p ON p.configuration = t.configuration "
                    "WHERE p.key = 'model.ttt.persistent' AND p.value = '" +
                        std::string(persistent ? "true" : "false") + "'");
    return id.substr(0, id.find('\n'));
  }
  std::string report_of_trial(bool persistent, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words{"diagnose",        "placed", "--db", "a.db",  "--trial",
                                   trial(persistent), "--step", "6",    "--out", work_.file("out").string()};
    words.insert(words.end(), more.begin(), more.end());
    return finished_report(run(words));
  }
  // Rewrites what the checkpoint at step 6 holds.
  void change(const std::function<void(std::map<std::string, std::vector<std::byte>>&)>& alter) const {
    const std::string paths =
        work_.query("a.db", "SELECT DISTINCT path FROM checkpoint WHERE step = 6 AND fit IS NOT NULL");
    std::istringstream lines(paths);
    for (std::string path; std::getline(lines, path);) {
      const fs::path file = work_.file("a.db.checkpoints") / path;
      std::map<std::string, std::vector<std::byte>> bytes;
      std::map<std::string, TensorView> views;
      {
        const SafetensorsFile opened = SafetensorsFile::open(file);
        views = opened.tensors();
        for (const auto& [name, view] : views) bytes[name].assign(view.data.begin(), view.data.end());
        alter(bytes);
        std::erase_if(views, [&](const auto& entry) { return !bytes.contains(entry.first); });
        for (auto& [name, view] : views) view.data = bytes.at(name);
        fs::remove(file);
        write_safetensors(file, views, {{"format", "tenfold checkpoint 1"}, {"step", "6"}}, false);
      }
    }
  }
};

TEST_F(DiagnoseTrial, ItsHeldOutFoldAndAnyStreamCanBeRun) {
  const std::string fold = report_of_trial(true);
  EXPECT_THAT(fold, HasSubstr("the held-out fold"));
  EXPECT_THAT(fold, HasSubstr("gate, mean tanh(alpha)"));
  EXPECT_THAT(fold, Not(HasSubstr("state_not_carried")));
  const std::string stream = report_of_trial(true, {"--input", work_.file("stream.txt").string()});
  EXPECT_THAT(stream, HasSubstr("stream.txt"));
  EXPECT_THAT(stream, Not(HasSubstr("state_not_carried")));
  EXPECT_THAT(stream, Not(HasSubstr("gate_shut")));
}

TEST_F(DiagnoseTrial, AStateThatIsNotCarried) {
  EXPECT_THAT(report_of_trial(false, {"--input", work_.file("stream.txt").string()}), HasSubstr("state_not_carried"));
}

TEST_F(DiagnoseTrial, AGateThatIsShut) {
  change([](auto& tensors) {
    for (auto& [name, bytes] : tensors)
      if (name.starts_with("parameter/") && name.ends_with("ttt.gate_alpha"))
        std::memset(bytes.data(), 0, bytes.size());
  });
  EXPECT_THAT(report_of_trial(true), HasSubstr("problem gate_shut"));
}

TEST_F(DiagnoseTrial, ACheckpointWithoutTttWeights) {
  change([](auto& tensors) {
    std::erase_if(tensors, [](const auto& entry) { return entry.first.find(".ttt.") != std::string::npos; });
  });
  const std::string text = report_of_trial(true);
  EXPECT_THAT(text, HasSubstr("problem no_ttt_weights"));
  EXPECT_THAT(text, HasSubstr("model.layers.1.ttt."));
}

TEST_F(DiagnoseTrial, TokensOfAnotherVocabularyAreRefused) {
  // The header of an npy file of two uint16: 5 and 300.
  std::string header = "{'descr': '<u2', 'fortran_order': False, 'shape': (2,), }";
  header.resize(117, ' ');
  header += '\n';
  std::string npy = std::string("\x93NUMPY\x01\x00", 8) + std::string("\x76\x00", 2) + header;
  npy += std::string("\x05\x00\x2c\x01", 4);
  work_.write("tokens.npy", npy);
  const Finished finished = run({"diagnose", "placed", "--db", "a.db", "--trial", trial(true), "--step", "6", "--input",
                                 work_.file("tokens.npy").string(), "--out", work_.file("out").string()});
  EXPECT_NE(finished.exit_code, 0);
  EXPECT_THAT(finished.output, HasSubstr("is 300, outside [0, 256)"));
}

}  // namespace
}  // namespace tenfold

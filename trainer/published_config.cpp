#include "trainer/published_config.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "experiments/error.h"
#include "trainer/published_json.h"

namespace tenfold {
namespace {

constexpr std::uintmax_t kMaxBytes = 64'000'000;
constexpr int kMaxExtent = 1 << 24;

[[noreturn]] void fail(const std::filesystem::path& where, const std::string& what) {
  throw Error(ErrorKind::data, where.string() + ": " + what);
}

// Keys of a config.json, each checked as it is read.
class Config {
 public:
  explicit Config(std::filesystem::path file) : file_(std::move(file)), json_(read_published_json(file_)) {}
  bool has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }

  int whole(const char* key, int least) const {
    if (!has(key)) fail(file_, std::string("the key ") + key + " is missing");
    return whole(key, least, least);
  }
  int whole(const char* key, int least, int otherwise) const {
    if (!has(key)) return otherwise;
    if (!json_[key].is_number_integer() || json_[key].get<std::int64_t>() < least ||
        json_[key].get<std::int64_t>() > kMaxExtent)
      fail(file_, std::string(key) + " is not a whole number from " + std::to_string(least) + " to " +
                      std::to_string(kMaxExtent));
    return json_[key].get<int>();
  }
  double number(const char* key, double otherwise) const {
    if (!has(key)) return otherwise;
    if (!json_[key].is_number()) fail(file_, std::string(key) + " is not a number");
    return json_[key].get<double>();
  }
  bool flag(const char* key) const {
    if (!has(key)) return false;
    if (!json_[key].is_boolean()) fail(file_, std::string(key) + " is neither true nor false");
    return json_[key].get<bool>();
  }
  std::string text(const char* key, const std::string& otherwise) const {
    if (!has(key)) return otherwise;
    if (!json_[key].is_string()) fail(file_, std::string(key) + " is not a text");
    return json_[key].get<std::string>();
  }
  // A value that only ever is this one here.
  void must_be(const char* key, double value) const {
    const double given = number(key, value);
    if (std::abs(given - value) > 1e-3 * value)
      fail(file_, std::string(key) + " is " + json_[key].dump() + ", and this program's models have " +
                      nlohmann::json(value).dump());
  }
  void must_be(const char* key, const std::string& value) const {
    if (text(key, value) != value)
      fail(file_, std::string(key) + " is '" + text(key, value) + "', and this program's models have '" + value + "'");
  }

 private:
  std::filesystem::path file_;
  nlohmann::json json_;
};

void read_ttt(const Config& config, const std::filesystem::path& file, ModelSpec& spec) {
  spec.kind = "ttt_lm";
  spec.ttt.kind = config.text("ttt_layer_type", "linear");
  if (spec.ttt.kind != "linear" && spec.ttt.kind != "mlp")
    fail(file, "ttt_layer_type is '" + spec.ttt.kind + "'; known are linear and mlp");
  spec.ttt.base_lr = config.number("ttt_base_lr", 1.0);
  spec.ttt.mini_batch_size = config.whole("mini_batch_size", 1, 16);
  spec.ttt.use_gate = config.flag("use_gate");
  spec.ttt.share_qk = config.flag("share_qk");
  spec.ttt.pre_conv = config.flag("pre_conv");
  spec.ttt.checkpoint_group_size = config.whole("scan_checkpoint_group_size", 0, 0);
  config.must_be("conv_kernel", 4);
}

}  // namespace

nlohmann::json read_published_json(const std::filesystem::path& file) {
  std::error_code error;
  const std::uintmax_t bytes = std::filesystem::file_size(file, error);
  if (error) fail(file, "it cannot be read: " + error.message());
  if (bytes > kMaxBytes) fail(file, "it is larger than 64 MB, so it is not what belongs to a checkpoint");
  std::ifstream in(file, std::ios::binary);
  if (!in) fail(file, "it cannot be opened");
  // A depth of brackets without end would end the program.
  const auto shallow = [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > 64) throw Error(ErrorKind::data, "its brackets are nested too deeply");
    return true;
  };
  nlohmann::json json;
  try {
    json = nlohmann::json::parse(in, shallow);
  } catch (const nlohmann::json::exception&) {
    fail(file, "it is not valid JSON");
  } catch (const Error& problem) {
    fail(file, problem.what());
  }
  if (!json.is_object()) fail(file, "it holds no JSON object");
  return json;
}

PublishedModel read_published_config(const std::filesystem::path& folder) {
  return read_published_config_file(folder / "config.json");
}

PublishedModel read_published_config_file(const std::filesystem::path& file) {
  const Config config(file);
  PublishedModel model;
  ModelSpec& spec = model.spec;
  spec.layers = config.whole("num_hidden_layers", 1);
  spec.width = config.whole("hidden_size", 1);
  spec.heads = config.whole("num_attention_heads", 1);
  spec.feed_forward = config.whole("intermediate_size", 1);
  spec.tie_embeddings = config.flag("tie_word_embeddings");
  spec.rope_base = config.number("rope_theta", 10000);
  model.vocabulary = config.whole("vocab_size", 2);
  config.must_be("rms_norm_eps", 1e-6);
  config.must_be("hidden_act", "silu");
  if (config.has("ttt_layer_type") || config.text("model_type", "") == "ttt") {
    read_ttt(config, file, spec);
  } else {
    config.must_be("num_key_value_heads", spec.heads);
    spec.kind = "transformer_lm";
  }
  return model;
}

}  // namespace tenfold

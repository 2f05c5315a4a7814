// Checkpoints as they are published: whole, in shards, in half precision; and what is wrong with others.
#include "trainer/published_checkpoint.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "datasets/safetensors.h"
#include "experiments/error.h"
#include "tests/trainer/tensors.h"
#include "trainer/ttt_lm_layout.h"

namespace tenfold::testing {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

class PublishedCheckpoint : public ::testing::Test {
 protected:
  PublishedCheckpoint() : folder_(fs::temp_directory_path() / ("published-" + std::to_string(::getpid()))) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    spec_.kind = "ttt_lm";
    spec_.layers = 1;
    spec_.width = 8;
    spec_.heads = 2;
    spec_.feed_forward = 16;
    spec_.ttt.kind = "linear";
    layout_ = ttt_lm_layout(spec_, 5);
    std::uint64_t site = 0;
    for (const ParameterInfo& info : layout_.parameters) values_[info.name] = normal(info.shape, ++site);
  }
  ~PublishedCheckpoint() override { fs::remove_all(folder_); }

  void write(const std::string& name, const std::map<std::string, at::Tensor>& values) const {
    std::map<std::string, TensorView> views;
    for (const auto& [key, value] : values) {
      const char* dtype = value.scalar_type() == at::kHalf       ? "F16"
                          : value.scalar_type() == at::kBFloat16 ? "BF16"
                          : value.scalar_type() == at::kLong     ? "I64"
                                                                 : "F32";
      views[key] = {dtype,
                    value.sizes().vec(),
                    {static_cast<const std::byte*>(value.const_data_ptr()), static_cast<std::size_t>(value.nbytes())}};
    }
    write_safetensors(folder_ / name, views, {}, false);
  }
  void write_text(const std::string& name, const std::string& text) const { std::ofstream(folder_ / name) << text; }

  ModelState empty_state(std::int64_t members) const {
    ModelState state;
    for (const ParameterInfo& info : layout_.parameters) {
      std::vector<std::int64_t> shape{members};
      shape.insert(shape.end(), info.shape.begin(), info.shape.end());
      state.parameters.push_back(at::full(shape, -7.0, at::kFloat));
    }
    return state;
  }
  void expect_values(const ModelState& state, double tolerance = 0) const {
    for (std::size_t i = 0; i < layout_.parameters.size(); ++i)
      for (std::int64_t k = 0; k < state.parameters[i].size(0); ++k)
        EXPECT_LE(relative_error(state.parameters[i][k], values_.at(layout_.parameters[i].name)), tolerance)
            << layout_.parameters[i].name;
  }
  std::string error_of(const std::function<void()>& call) const {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::data);
      return error.what();
    }
    ADD_FAILURE() << "nothing was thrown";
    return "";
  }
  std::string load_error(const std::string& name) const {
    return error_of([&] {
      ModelState state = empty_state(1);
      load_published_parameters(folder_ / name, layout_, state);
    });
  }

  fs::path folder_;
  ModelSpec spec_;
  ModelLayout layout_;
  std::map<std::string, at::Tensor> values_;
};

TEST_F(PublishedCheckpoint, LoadsWholeFilesForEveryMember) {
  write("model.safetensors", values_);
  for (const fs::path& path : {folder_, folder_ / "model.safetensors"}) {
    ModelState state = empty_state(3);
    EXPECT_TRUE(load_published_parameters(path, layout_, state).kept.empty());
    expect_values(state);
  }
}

TEST_F(PublishedCheckpoint, LoadsShards) {
  std::map<std::string, at::Tensor> first, second;
  std::string map;
  for (const auto& [name, value] : values_) {
    const bool one = first.size() < 5;
    (one ? first : second)[name] = value;
    map += (map.empty() ? "" : ", ") + ("\"" + name + "\": \"part-" + (one ? "1" : "2") + ".safetensors\"");
  }
  write("part-1.safetensors", first);
  write("part-2.safetensors", second);
  write_text("model.safetensors.index.json", "{\"metadata\": {}, \"weight_map\": {" + map + "}}");
  ModelState state = empty_state(2);
  load_published_parameters(folder_, layout_, state);
  expect_values(state);
  fs::remove(folder_ / "part-2.safetensors");
  EXPECT_THAT(load_error(""), HasSubstr("part-2.safetensors"));
}

TEST_F(PublishedCheckpoint, TakesHalfPrecision) {
  for (const at::ScalarType type : {at::kHalf, at::kBFloat16}) {
    std::map<std::string, at::Tensor> half;
    for (const auto& [name, value] : values_) half[name] = value.to(type);
    write("model.safetensors", half);
    ModelState state = empty_state(1);
    load_published_parameters(folder_, layout_, state);
    EXPECT_EQ(state.parameters[0].scalar_type(), at::kFloat);
    expect_values(state, type == at::kHalf ? 1e-3 : 1e-2);
  }
}

TEST_F(PublishedCheckpoint, SaysWhatDoesNotFitAndWritesNothing) {
  auto values = values_;
  values.erase("model.norm.weight");
  values["model.layers.7.seq_norm.weight"] = at::ones({8});
  values["lm_head.weight"] = at::ones({5, 9});
  values["model.embed_tokens.weight"] = at::ones({5, 8}, at::kLong);
  write("model.safetensors", values);
  ModelState state = empty_state(1);
  const std::string error = error_of([&] { load_published_parameters(folder_, layout_, state); });
  EXPECT_THAT(error, HasSubstr("missing: model.norm.weight"));
  EXPECT_THAT(error, HasSubstr("not in the model: model.layers.7.seq_norm.weight"));
  EXPECT_THAT(error, HasSubstr("lm_head.weight is [5, 9], the model's is [5, 8]"));
  EXPECT_THAT(error, HasSubstr("model.embed_tokens.weight is of type I64"));
  for (const at::Tensor& value : state.parameters) EXPECT_TRUE(at::equal(value, at::full_like(value, -7.0)));
}

TEST_F(PublishedCheckpoint, GroupsThatTheFileHasNothingOfKeepTheirValues) {
  std::map<std::string, at::Tensor> base;
  for (const auto& [name, value] : values_)
    if (name.find("seq_modeling_block") == std::string::npos) base[name] = value;
  base["model.layers.0.rotary_emb.inv_freq"] = at::ones({4});
  write("model.safetensors", base);
  ModelState state = empty_state(1);
  const PublishedParameters loaded = load_published_parameters(folder_, layout_, state);
  EXPECT_EQ(loaded.kept.size(), values_.size() + 1 - base.size());
  for (std::size_t i = 0; i < layout_.parameters.size(); ++i)
    if (layout_.parameters[i].group == ParameterGroup::ttt) {
      EXPECT_EQ(state.parameters[i].min().item<float>(), -7) << layout_.parameters[i].name;
    }
  base["model.layers.0.seq_modeling_block.W1"] = values_["model.layers.0.seq_modeling_block.W1"];
  write("model.safetensors", base);
  EXPECT_THAT(load_error(""), HasSubstr("missing: model.layers.0.seq_modeling_block."));
}

TEST_F(PublishedCheckpoint, RefusesHostileIndexes) {
  EXPECT_THAT(load_error(""), HasSubstr("neither model.safetensors nor"));
  EXPECT_THAT(load_error("nothing.safetensors"), HasSubstr("no such checkpoint"));
  const char* index = "model.safetensors.index.json";
  for (const char* text :
       {"{\"weight_map\": {\"a\": \"../../etc/passwd\"}}", "{\"weight_map\": {\"a\": 3}}",
        "{\"weight_map\": {\"a\": \"..\"}}", "{\"weight_map\": {}}", "{}", "[1, 2]", "{\"weight_map\":", ""}) {
    write_text(index, text);
    EXPECT_THAT(load_error(""), HasSubstr(index)) << text;
  }
  write_text(index, std::string(100'000, '['));
  EXPECT_THAT(load_error(""), HasSubstr("nested"));
  write_text("model.safetensors", "not a checkpoint");
  load_error("");
}

TEST_F(PublishedCheckpoint, ReadsTheConfigurationOfTttModels) {
  write_text("config.json", R"({"model_type": "ttt", "vocab_size": 97, "hidden_size": 64, "intermediate_size": 176,
      "num_hidden_layers": 2, "num_attention_heads": 4, "mini_batch_size": 8, "ttt_layer_type": "mlp", "use_gate": true,
      "share_qk": true, "pre_conv": true, "tie_word_embeddings": true, "ttt_base_lr": 0.1, "rope_theta": 500,
      "scan_checkpoint_group_size": 4, "rms_norm_eps": 1e-06, "conv_kernel": 4})");
  const PublishedModel model = read_published_config(folder_);
  EXPECT_EQ(model.vocabulary, 97);
  const ModelSpec& spec = model.spec;
  EXPECT_EQ(spec.kind, "ttt_lm");
  EXPECT_EQ(spec.width, 64);
  EXPECT_EQ(spec.feed_forward, 176);
  EXPECT_EQ(spec.layers, 2);
  EXPECT_EQ(spec.heads, 4);
  EXPECT_EQ(spec.rope_base, 500);
  EXPECT_TRUE(spec.tie_embeddings && spec.ttt.use_gate && spec.ttt.share_qk && spec.ttt.pre_conv);
  EXPECT_EQ(spec.ttt.kind, "mlp");
  EXPECT_EQ(spec.ttt.mini_batch_size, 8);
  EXPECT_EQ(spec.ttt.base_lr, 0.1);
  EXPECT_EQ(spec.ttt.checkpoint_group_size, 4);
}

TEST_F(PublishedCheckpoint, SaysWhichConfigurationsAreNotMadeHere) {
  const auto error = [&](const std::string& rest) {
    write_text("config.json", R"({"model_type": "llama", "vocab_size": 97, "hidden_size": 64, "intermediate_size": 176,
        "num_hidden_layers": 2, "num_attention_heads": 4)" +
                                  rest + "}");
    return error_of([&] { read_published_config(folder_); });
  };
  EXPECT_THAT(error(R"(, "num_key_value_heads": 2)"), HasSubstr("num_key_value_heads is 2"));
  EXPECT_THAT(error(R"(, "rms_norm_eps": 1e-5)"), HasSubstr("rms_norm_eps"));
  EXPECT_THAT(error(R"(, "hidden_act": "gelu")"), HasSubstr("hidden_act is 'gelu'"));
  EXPECT_THAT(error(R"(, "ttt_layer_type": "cubic")"), HasSubstr("ttt_layer_type is 'cubic'"));
  EXPECT_THAT(error(R"(, "tie_word_embeddings": 3)"), HasSubstr("tie_word_embeddings"));
  write_text("config.json", R"({"hidden_size": -4})");
  EXPECT_THAT(error_of([&] { read_published_config(folder_); }), HasSubstr("num_hidden_layers is missing"));
  fs::remove(folder_ / "config.json");
  EXPECT_THAT(error_of([&] { read_published_config(folder_); }), HasSubstr("config.json"));
}

}  // namespace
}  // namespace tenfold::testing

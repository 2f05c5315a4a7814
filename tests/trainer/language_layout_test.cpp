// Where TTT layers are placed, and which parameters a transformer_lm has, without LibTorch.
#include "trainer/language_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "experiments/error.h"

namespace tenfold {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

template <class Function>
std::string config_error(Function&& function) {
  try {
    function();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::config);
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

std::vector<int> placed(const std::vector<std::string>& patterns, int count) {
  return placed_layers(patterns, count, "model.ttt.layers");
}

TEST(PlacedLayers, MeansNoneSomeOrAll) {
  EXPECT_THAT(placed({"none"}, 4), IsEmpty());
  EXPECT_THAT(placed({}, 4), IsEmpty());
  EXPECT_THAT(placed({"all"}, 4), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(placed({"2"}, 4), ElementsAre(2));
  EXPECT_THAT(placed({"-1"}, 4), ElementsAre(3));
  EXPECT_THAT(placed({"-4"}, 4), ElementsAre(0));
  EXPECT_THAT(placed({"29", "30", "31"}, 32), ElementsAre(29, 30, 31));
  EXPECT_THAT(placed({"first:2"}, 4), ElementsAre(0, 1));
  EXPECT_THAT(placed({"last:3"}, 4), ElementsAre(1, 2, 3));
  EXPECT_THAT(placed({"last:4"}, 4), ElementsAre(0, 1, 2, 3));
}

TEST(PlacedLayers, EveryNthIsTheLastOfEachGroup) {
  EXPECT_THAT(placed({"every:1"}, 3), ElementsAre(0, 1, 2));
  EXPECT_THAT(placed({"every:2"}, 5), ElementsAre(1, 3));
  EXPECT_THAT(placed({"every:3"}, 12), ElementsAre(2, 5, 8, 11));
}

TEST(PlacedLayers, ThirdsCoverAllLayersOnceWithEqualEnds) {
  EXPECT_THAT(placed({"early"}, 12), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(placed({"middle"}, 12), ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(placed({"late"}, 12), ElementsAre(8, 9, 10, 11));
  EXPECT_THAT(placed({"late"}, 2), ElementsAre(1));
  for (int count = 3; count < 40; ++count) {
    const auto early = placed({"early"}, count), middle = placed({"middle"}, count), late = placed({"late"}, count);
    EXPECT_EQ(early.size(), late.size()) << count;
    EXPECT_EQ(early.size() + middle.size() + late.size(), static_cast<std::size_t>(count));
    EXPECT_EQ(early.back() + 1, middle.front());
    EXPECT_EQ(middle.back() + 1, late.front());
  }
}

TEST(PlacedLayers, ListsAreUnions) {
  EXPECT_THAT(placed({"-1", "first:1", "last:1", "0"}, 6), ElementsAre(0, 5));
  EXPECT_THAT(placed({"every:2", "0"}, 4), ElementsAre(0, 1, 3));
}

TEST(PlacedLayers, SaysWhatIsWrongAndWhatIsAllowed) {
  EXPECT_THAT(config_error([] { placed({"4"}, 4); }), HasSubstr("model.ttt.layers: there is no layer 4"));
  EXPECT_THAT(config_error([] { placed({"-5"}, 4); }), HasSubstr("0 to 3"));
  EXPECT_THAT(config_error([] { placed({"-9223372036854775808"}, 4); }), HasSubstr("there is no layer"));
  EXPECT_THAT(config_error([] { placed({"9223372036854775807"}, 4); }), HasSubstr("there is no layer"));
  EXPECT_THAT(config_error([] { placed({"last:5"}, 4); }), HasSubstr("from 1 to 4"));
  EXPECT_THAT(config_error([] { placed({"every:0"}, 4); }), HasSubstr("from 1 to 4"));
  EXPECT_THAT(config_error([] { placed({"first:x"}, 4); }), HasSubstr("from 1 to 4"));
  EXPECT_THAT(config_error([] { placed({"first:"}, 4); }), HasSubstr("from 1 to 4"));
  EXPECT_THAT(config_error([] { placed({"lat"}, 4); }), HasSubstr("allowed are none, all, early"));
  EXPECT_THAT(config_error([] { placed({"1.5"}, 4); }), HasSubstr("names no layers"));
  EXPECT_THAT(config_error([] { placed({""}, 4); }), HasSubstr("names no layers"));
  EXPECT_THAT(config_error([] { placed({"middle"}, 2); }), HasSubstr("the model has 2 layers"));
  EXPECT_THAT(config_error([] { placed({"none", "1"}, 4); }), HasSubstr("'none' stands alone"));
  EXPECT_THAT(config_error([] { placed_layers({"7"}, 2, "diagnostics.inner_loss.layers"); }),
              HasSubstr("diagnostics.inner_loss.layers: "));
}

ModelSpec transformer() {
  ModelSpec spec;
  spec.kind = "transformer_lm";
  spec.layers = 3;
  spec.width = 64;
  spec.heads = 4;
  return spec;
}

const ParameterInfo& find(const ModelLayout& layout, const std::string& name) {
  const auto found = std::find_if(layout.parameters.begin(), layout.parameters.end(),
                                  [&](const ParameterInfo& parameter) { return parameter.name == name; });
  if (found == layout.parameters.end()) throw Error(ErrorKind::internal, "no parameter " + name);
  return *found;
}

bool has(const ModelLayout& layout, const std::string& part) {
  return std::any_of(layout.parameters.begin(), layout.parameters.end(),
                     [&](const ParameterInfo& parameter) { return parameter.name.find(part) != std::string::npos; });
}

constexpr std::int64_t kVocabulary = 256, kWidth = 64, kInner = 176;  // 8/3 of 64 up to a multiple of 16
constexpr std::int64_t kBlock = 2 * kWidth + 4 * kWidth * kWidth + 3 * kWidth * kInner;

TEST(TransformerLayout, CountsTheParametersOfALlama) {
  const ModelLayout layout = model_layout(transformer(), {1}, kVocabulary);
  EXPECT_EQ(layout.parameter_count(), 2 * kVocabulary * kWidth + kWidth + 3 * kBlock);
  EXPECT_EQ(layout.layers, 4);
  EXPECT_THAT(find(layout, "model.layers.2.mlp.down_proj.weight").shape, ElementsAre(kWidth, kInner));
  EXPECT_EQ(find(layout, "model.embed_tokens.weight").layer, 0);
  EXPECT_EQ(find(layout, "model.layers.2.mlp.up_proj.weight").layer, 2);
  EXPECT_EQ(find(layout, "model.norm.weight").layer, 3);
  EXPECT_EQ(find(layout, "lm_head.weight").layer, 3);
  EXPECT_NEAR(find(layout, "model.layers.1.self_attn.o_proj.weight").initial.value, 0.02 / std::sqrt(6), 1e-12);
  EXPECT_EQ(find(layout, "model.layers.1.self_attn.q_proj.weight").initial.value, 0.02);
  EXPECT_FALSE(has(layout, "ttt"));
  EXPECT_FALSE(has(layout, "lora"));
  ModelSpec tied = transformer();
  tied.tie_embeddings = true;
  tied.feed_forward = 100;
  const ModelLayout small = model_layout(tied, {1}, kVocabulary);
  EXPECT_FALSE(has(small, "lm_head"));
  EXPECT_EQ(small.parameter_count(), kVocabulary * kWidth + kWidth + 3 * (kBlock - 3 * kWidth * (kInner - 100)));
}

TEST(TransformerLayout, PlacesTttLayersInGroupsOfTheirOwn) {
  ModelSpec spec = transformer();
  spec.ttt.layers = {"0", "-1"};
  spec.ttt.kind = "mlp";
  spec.ttt.inner_layers = 3;
  spec.ttt.gate_init = 0.005;
  const ModelLayout layout = model_layout(spec, {1}, kVocabulary);
  EXPECT_TRUE(has(layout, "model.layers.0.ttt."));
  EXPECT_FALSE(has(layout, "model.layers.1.ttt."));
  EXPECT_TRUE(has(layout, "model.layers.2.ttt."));
  constexpr std::int64_t f = 16, heads = 4;
  EXPECT_THAT(find(layout, "model.layers.2.ttt.W1").shape, ElementsAre(heads, f, 4 * f));
  EXPECT_THAT(find(layout, "model.layers.2.ttt.W2").shape, ElementsAre(heads, 4 * f, 4 * f));
  EXPECT_THAT(find(layout, "model.layers.2.ttt.W3").shape, ElementsAre(heads, 4 * f, f));
  EXPECT_THAT(find(layout, "model.layers.2.ttt.b3").shape, ElementsAre(heads, 1, f));
  EXPECT_EQ(find(layout, "model.layers.2.ttt.gate_alpha").group, ParameterGroup::gate);
  EXPECT_EQ(find(layout, "model.layers.2.ttt.gate_alpha").initial.value, 0.005);
  EXPECT_EQ(find(layout, "model.layers.2.ttt.q_proj.weight").group, ParameterGroup::ttt);
  const auto gates = select_parameters(layout, {"gate"}), ttt = select_parameters(layout, {"ttt"});
  EXPECT_EQ(selected_count(layout, gates), 2 * kWidth);
  EXPECT_EQ(selected_count(layout, ttt), 2 * (4 * kWidth * kWidth + heads * (f * 64 + 64 + 64 * 64 + 64 + 64 * f + f) +
                                              heads * (kWidth + 1) + 4 * kWidth));
  EXPECT_EQ(selected_count(layout, select_parameters(layout, {"base"})),
            2 * kVocabulary * kWidth + kWidth + 3 * kBlock);
  spec.ttt.kind = "linear";
  EXPECT_FALSE(has(model_layout(spec, {1}, kVocabulary), "W2"));
}

TEST(TransformerLayout, PutsLoraBesideTheChosenProjections) {
  ModelSpec spec = transformer();
  spec.lora.rank = 8;
  spec.lora.projections = {"q_proj", "down_proj"};
  spec.ttt.layers = {"all"};
  const ModelLayout layout = model_layout(spec, {1}, kVocabulary);
  EXPECT_THAT(find(layout, "model.layers.1.self_attn.q_proj.lora_A.weight").shape, ElementsAre(8, kWidth));
  EXPECT_THAT(find(layout, "model.layers.1.mlp.down_proj.lora_A.weight").shape, ElementsAre(8, kInner));
  const ParameterInfo& b = find(layout, "model.layers.1.mlp.down_proj.lora_B.weight");
  EXPECT_THAT(b.shape, ElementsAre(kWidth, 8));
  EXPECT_EQ(b.group, ParameterGroup::lora);
  EXPECT_EQ(b.initial.kind, InitialValue::Kind::constant);
  EXPECT_EQ(b.initial.value, 0);
  EXPECT_EQ(find(layout, "model.layers.1.self_attn.q_proj.lora_A.weight").initial.kind, InitialValue::Kind::fan_in);
  EXPECT_FALSE(has(layout, "k_proj.lora"));
  EXPECT_FALSE(has(layout, "ttt.q_proj.lora"));
  EXPECT_EQ(selected_count(layout, select_parameters(layout, {"lora"})),
            3 * (8 * (kWidth + kWidth) + 8 * (kInner + kWidth)));
}

TEST(TransformerLayout, SaysWhichModelsCannotBeMade) {
  const auto error_of = [](auto change) {
    ModelSpec spec = transformer();
    change(spec);
    return config_error([&] { model_layout(spec, {1}, kVocabulary); });
  };
  EXPECT_THAT(error_of([](ModelSpec& spec) { spec.heads = 5; }), HasSubstr("not a multiple of model.heads"));
  EXPECT_THAT(error_of([](ModelSpec& spec) { spec.heads = 64; }), HasSubstr("odd"));
  EXPECT_THAT(error_of([](ModelSpec& spec) { spec.ttt.layers = {"3"}; }), HasSubstr("model.ttt.layers"));
  EXPECT_THAT(error_of([](ModelSpec& spec) { spec.lora.rank = 65; }), HasSubstr("at most 64"));
  EXPECT_THAT(error_of([](ModelSpec& spec) {
                spec.width = 1'000'000;
                spec.feed_forward = 10'000'000;
                spec.layers = 1000;
              }),
              HasSubstr("2^40"));
  EXPECT_THAT(config_error([] { model_layout(transformer(), {1}, 1); }), HasSubstr("vocabulary of at least 2"));
}

}  // namespace
}  // namespace tenfold

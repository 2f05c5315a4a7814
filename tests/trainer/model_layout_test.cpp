#include "trainer/model_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "experiments/error.h"

namespace tenfold {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> names(const ModelLayout& layout, const std::vector<std::string>& patterns) {
  const std::vector<bool> selected = select_parameters(layout, patterns);
  std::vector<std::string> result;
  for (std::size_t i = 0; i < selected.size(); ++i)
    if (selected[i]) result.push_back(layout.parameters[i].name);
  return result;
}

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

ModelSpec mlp(std::vector<int> hidden, const std::string& norm) {
  ModelSpec spec;
  spec.kind = "mlp";
  spec.hidden = std::move(hidden);
  spec.norm = norm;
  return spec;
}

ModelSpec cnn(std::vector<int> channels, std::vector<int> hidden, const std::string& norm) {
  ModelSpec spec = mlp(std::move(hidden), norm);
  spec.kind = "cnn";
  spec.channels = std::move(channels);
  return spec;
}

TEST(ModelLayout, TheDigitsModelHasItsParameters) {
  const ModelLayout layout = model_layout(mlp({128, 128}, "layer"), {64}, 10);
  EXPECT_EQ(layout.parameter_count(), 64 * 128 + 128 + 256 + 128 * 128 + 128 + 256 + 1290);
  EXPECT_EQ(layout.layers, 3);
  EXPECT_TRUE(layout.buffers.empty());
  EXPECT_THAT(names(layout, {"all"}),
              ElementsAre("layers.0.linear.weight", "layers.0.linear.bias", "layers.0.norm.weight",
                          "layers.0.norm.bias", "layers.1.linear.weight", "layers.1.linear.bias",
                          "layers.1.norm.weight", "layers.1.norm.bias", "head.weight", "head.bias"));
  const ParameterInfo& first = layout.parameters[0];
  EXPECT_THAT(first.shape, ElementsAre(64, 128));
  EXPECT_EQ(first.fan_in, 64);
  EXPECT_EQ(first.layer, 0);
  EXPECT_EQ(first.role, ParameterRole::weight);
  EXPECT_EQ(layout.parameters[1].fan_in, 64);
  EXPECT_EQ(layout.parameters[1].role, ParameterRole::bias);
  EXPECT_EQ(layout.parameters[2].fan_in, 0);
  EXPECT_EQ(layout.parameters[2].role, ParameterRole::norm_weight);
  EXPECT_EQ(layout.parameters[3].role, ParameterRole::norm_bias);
  EXPECT_THAT(layout.parameters[8].shape, ElementsAre(128, 10));
  EXPECT_EQ(layout.parameters[8].layer, 2);
}

TEST(ModelLayout, BatchNormHasRunningStatistics) {
  const ModelLayout layout = model_layout(mlp({8, 4}, "batch"), {3}, 2);
  ASSERT_EQ(layout.buffers.size(), 4u);
  EXPECT_EQ(layout.buffers[0].name, "layers.0.norm.running_mean");
  EXPECT_EQ(layout.buffers[0].initial_value, 0.0f);
  EXPECT_EQ(layout.buffers[3].name, "layers.1.norm.running_var");
  EXPECT_EQ(layout.buffers[3].initial_value, 1.0f);
  EXPECT_THAT(layout.buffers[3].shape, ElementsAre(4));
}

TEST(ModelLayout, WithoutHiddenLayersTheHeadIsAll) {
  const ModelLayout layout = model_layout(mlp({}, "layer"), {64}, 10);
  EXPECT_EQ(layout.layers, 1);
  EXPECT_EQ(layout.parameter_count(), 650);
  EXPECT_THAT(config_error([&] { select_parameters(layout, {"body"}); }), HasSubstr("head alone"));
}

TEST(ModelLayout, AnMlpFlattensImages) {
  EXPECT_THAT(model_layout(mlp({5}, "none"), {3, 4, 2}, 2).parameters[0].shape, ElementsAre(24, 5));
}

TEST(ModelLayout, ACnnPoolsAsLongAsItCan) {
  const ModelSpec spec = cnn({16, 32, 8, 4}, {20}, "batch");
  const auto stages = convolutions(spec, {1, 9, 5});
  ASSERT_EQ(stages.size(), 4u);
  EXPECT_EQ(stages[0].height, 9);
  EXPECT_EQ(stages[0].out_height, 4);
  EXPECT_EQ(stages[0].out_width, 2);
  EXPECT_EQ(stages[1].out_height, 2);
  EXPECT_EQ(stages[1].out_width, 1);
  EXPECT_TRUE(stages[1].pooled);
  EXPECT_FALSE(stages[2].pooled) << "one column left";
  EXPECT_EQ(stages[3].out_height, 2);
  EXPECT_THAT(linear_widths(spec, {1, 9, 5}, 10), ElementsAre(4 * 2 * 1, 20, 10));

  const ModelLayout layout = model_layout(spec, {1, 9, 5}, 10);
  EXPECT_EQ(layout.layers, 6);
  EXPECT_THAT(layout.parameters[4].shape, ElementsAre(32, 16, 3, 3));
  EXPECT_EQ(layout.parameters[4].name, "layers.1.conv.weight");
  EXPECT_EQ(layout.parameters[4].fan_in, 16 * 9);
  EXPECT_THAT(layout.parameters[6].shape, ElementsAre(32));
  EXPECT_EQ(names(layout, {"layers:[4]"}).front(), "layers.4.linear.weight");
  EXPECT_EQ(layout.buffers.size(), 10u);
  EXPECT_EQ(model_layout(cnn({16, 32}, {}, "none"), {1, 8, 8}, 10).parameter_count(),
            16 * 9 + 16 + 32 * 16 * 9 + 32 + 32 * 4 * 10 + 10);
}

TEST(ModelLayout, SaysWhatAModelCannotTake) {
  EXPECT_THAT(config_error([] { model_layout(cnn({4}, {}, "none"), {64}, 10); }), HasSubstr("(64)"));
  EXPECT_THAT(config_error([] { model_layout(mlp({0}, "none"), {64}, 10); }), HasSubstr("model.hidden"));
  EXPECT_THAT(config_error([] { model_layout(mlp({4}, "rms"), {64}, 10); }), HasSubstr("layer, batch, none"));
  EXPECT_THAT(config_error([] { model_layout(mlp({4}, "none"), {64}, 1); }), HasSubstr("2 classes"));
  EXPECT_THAT(config_error([] { model_layout(mlp({4}, "none"), {}, 2); }), HasSubstr("no features"));
  EXPECT_THAT(config_error([] { model_layout(cnn({}, {}, "none"), {1, 8, 8}, 2); }), HasSubstr("model.channels"));
  ModelSpec even = cnn({4}, {}, "none");
  even.kernel_size = 2;
  EXPECT_THAT(config_error([&] { model_layout(even, {1, 8, 8}, 2); }), HasSubstr("odd"));
  ModelSpec other;
  other.kind = "transformer";
  EXPECT_THAT(config_error([&] { model_layout(other, {8}, 2); }), HasSubstr("mlp, cnn"));
  constexpr int kHuge = std::numeric_limits<int>::max();
  EXPECT_THAT(config_error([&] { model_layout(mlp({kHuge, kHuge}, "none"), {kHuge}, 2); }), HasSubstr("too large"));
  EXPECT_THAT(config_error([&] {
                model_layout(mlp({4}, "none"), {kHuge, kHuge, kHuge, kHuge}, 2);
              }),
              HasSubstr("too large"));
  ModelSpec wide = cnn({kHuge}, {}, "none");
  wide.kernel_size = kHuge;
  EXPECT_THAT(config_error([&] { model_layout(wide, {1, 8, 8}, 2); }), HasSubstr("too large"));
}

class SelectParameters : public ::testing::Test {
 protected:
  const ModelLayout layout = model_layout(mlp({8, 4}, "layer"), {3}, 2);
};

TEST_F(SelectParameters, ByRoleAndLayer) {
  EXPECT_EQ(selected_count(layout, select_parameters(layout, {"all"})), layout.parameter_count());
  EXPECT_THAT(names(layout, {"norm"}),
              ElementsAre("layers.0.norm.weight", "layers.0.norm.bias", "layers.1.norm.weight", "layers.1.norm.bias"));
  EXPECT_EQ(selected_count(layout, select_parameters(layout, {"norm"})), 2 * (8 + 4));
  EXPECT_THAT(names(layout, {"last:1"}), ElementsAre("head.weight", "head.bias"));
  EXPECT_EQ(names(layout, {"last:2"}).size(), 6u);
  EXPECT_EQ(names(layout, {"last:3"}), names(layout, {"all"}));
  EXPECT_EQ(names(layout, {"first:1"}), names(layout, {"layers:[0]"}));
  EXPECT_EQ(names(layout, {"body"}), names(layout, {"first:2"}));
  EXPECT_EQ(names(layout, {"layers:[-1, 0]"}), names(layout, {"first:1", "last:1"}));
}

TEST_F(SelectParameters, ByNameAndTogether) {
  EXPECT_THAT(names(layout, {"head.bias"}), ElementsAre("head.bias"));
  EXPECT_EQ(names(layout, {"*.norm.*"}), names(layout, {"norm"}));
  EXPECT_THAT(names(layout, {"layers.?.linear.bias"}), ElementsAre("layers.0.linear.bias", "layers.1.linear.bias"));
  EXPECT_THAT(names(layout, {"*bias", "head.*"}),
              ElementsAre("layers.0.linear.bias", "layers.0.norm.bias", "layers.1.linear.bias", "layers.1.norm.bias",
                          "head.weight", "head.bias"));
  EXPECT_TRUE(names(layout, {}).empty());
}

TEST_F(SelectParameters, SaysWhatIsWrongWithAPattern) {
  const auto error = [&](const std::string& pattern) {
    return config_error([&] { select_parameters(layout, {"all", pattern}); });
  };
  EXPECT_THAT(error("nrom"), HasSubstr("did you mean 'norm'"));
  EXPECT_THAT(error("head.wieght"), HasSubstr("did you mean 'head.weight'"));
  EXPECT_THAT(error("*.conv.*"), HasSubstr("layers.0.linear.weight"));
  EXPECT_THAT(error("last:0"), HasSubstr("1 to 3"));
  EXPECT_THAT(error("last:4"), HasSubstr("3 layers"));
  EXPECT_THAT(error("first:two"), HasSubstr("'two' is not an integer"));
  EXPECT_THAT(error("layers:[3]"), HasSubstr("0 to 2"));
  EXPECT_THAT(error("layers:[-4]"), HasSubstr("layer -4"));
  EXPECT_THAT(error("layers:1"), HasSubstr("brackets"));
  EXPECT_THAT(error("layers:[]"), HasSubstr("not an integer"));
  EXPECT_THAT(error(""), HasSubstr("selects no parameter"));
  EXPECT_THAT(error(std::string(100000, '*') + "x"), HasSubstr("selects no parameter"));
  const ModelLayout plain = model_layout(mlp({8}, "none"), {3}, 2);
  EXPECT_THAT(config_error([&] { select_parameters(plain, {"norm"}); }), HasSubstr("no norm layers"));
}

}  // namespace
}  // namespace tenfold

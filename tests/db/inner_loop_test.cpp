#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "db/inner_loop_diagnosis.h"
#include "db/inner_loop_statistics.h"
#include "experiments/experiment.h"

namespace tenfold {
namespace {

using ::testing::Contains;
using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr int kPositions = 400;

// Noise that is the same every time, in [-1, 1].
double noise(int position) { return std::sin(12.9898 * position) * std::cos(78.233 * position); }

using Curve = std::function<double(int position)>;

InnerLossCurves curves_of(const Curve& l0, const Curve& lprev, const Curve& lafter, int positions = kPositions) {
  InnerLossCurves curves;
  for (int t = 0; t < positions; ++t) {
    curves.position.push_back(t);
    curves.l0.push_back(l0(t));
    curves.lprev.push_back(lprev(t));
    curves.lafter.push_back(lafter(t));
  }
  return curves;
}

double flat(int t) { return 0.8 + 0.02 * noise(t); }
// What a stream teaches: the loss falls to 70 % of l0. In the first mini-batch of 16 lprev is l0.
double taught(int t) { return t < 16 ? flat(t) : flat(t) * (1 - 0.3 * (1 - std::exp(-t / 100.0))); }

InnerLoopLayer healthy_layer() {
  InnerLoopLayer layer;
  layer.layer = 3;
  layer.kind = "mlp";
  layer.mini_batch_size = 16;
  layer.curves = curves_of(flat, taught, [](int t) { return 0.95 * taught(t); });
  layer.gate_mean = 0.2;
  layer.gate_min = 0.1;
  layer.gate_max = 0.3;
  layer.gate_initial = 0.1;
  layer.trained = true;
  layer.movement_start = 0.1;
  layer.movement_end = 1.5;
  layer.carries = true;
  layer.carry_gap = 0;
  return layer;
}

InnerLoopModel healthy_model() {
  InnerLoopModel model;
  model.kind = "transformer_lm";
  model.layers = 8;
  model.stream_length = kPositions;
  model.max_positions = 2048;
  model.base_lr = 0.1;
  model.gate_init = 0.1;
  model.nll = 2.0;
  model.nll_without_ttt = 2.3;
  model.kl_without_ttt = 0.2;
  return model;
}

std::vector<std::string> names_of(const LayerDiagnosis& diagnosis) {
  std::vector<std::string> names;
  for (const Diagnosis& found : diagnosis.found) names.push_back(found.name);
  return names;
}

// Each suggestion, pasted into a file, is understood.
void expect_valid_yaml(const LayerDiagnosis& diagnosis) {
  for (const Diagnosis& found : diagnosis.found) {
    EXPECT_FALSE(found.finding.empty());
    EXPECT_FALSE(found.causes.empty()) << found.name;
    ASSERT_FALSE(found.yaml.empty()) << found.name;
    std::string yaml = found.yaml;
    const std::string model = "model: {";
    if (const auto at = yaml.find(model); at != std::string::npos)
      yaml.insert(at + model.size(), "kind: transformer_lm, layers: 4, ");
    else
      yaml += "\nmodel: {kind: transformer_lm, layers: 4, ttt: {layers: all}}";
    const std::string file =
        "name: sick\ndataset: {kind: text, path: a.txt}\nfolds: {kind: kfold, k: 3}\nttt: {method: source}\n"
        "metrics: [nll]\n" +
        yaml + "\n";
    EXPECT_NO_THROW(Experiment::parse(file, "sick.yaml")) << found.name << "\n" << file;
  }
}

// Diagnoses a layer and checks what every diagnosis must have.
LayerDiagnosis diagnosed(const InnerLoopLayer& layer, const InnerLoopModel& model = healthy_model()) {
  LayerDiagnosis result = diagnose_layer(layer, model);
  expect_valid_yaml(result);
  return result;
}

TEST(InnerLoopStatistics, AreThoseOfTheCurves) {
  InnerLossCurves curves;
  curves.position = {0, 1, 2, 3};
  curves.l0 = {4, 4, 4, 4};
  curves.lprev = {4, 3, 5, 2};
  curves.lafter = {3, 3.5, 2, 1};
  const InnerLoopStatistics s = inner_loop_statistics(curves, 1);
  EXPECT_EQ(s.positions, 4);
  EXPECT_EQ(s.last_position, 3);
  EXPECT_DOUBLE_EQ(s.lprev.mean, 3.5);
  EXPECT_DOUBLE_EQ(s.lprev.smallest, 2);
  EXPECT_DOUBLE_EQ(s.lprev.largest, 5);
  EXPECT_NEAR(s.lprev.sd, std::sqrt((0.25 + 0.25 + 2.25 + 2.25) / 3), 1e-12);
  EXPECT_EQ(s.violations, 2);  // at 1 lafter > lprev, at 2 lprev > l0
  EXPECT_EQ(s.after_above_prev, 1);
  EXPECT_EQ(s.prev_above_l0, 1);
  EXPECT_DOUBLE_EQ(s.violation_share(), 0.5);
  EXPECT_DOUBLE_EQ(s.step_improvement, (1 - 0.5 + 3 + 1) / 4.0);
  EXPECT_DOUBLE_EQ(s.cumulative_benefit, (1 + 0.5 + 2 + 3) / 4.0);
  EXPECT_DOUBLE_EQ(s.context_benefit, (1 - 1 + 2) / 3.0);
  EXPECT_DOUBLE_EQ(s.first_relative_benefit, 0.25);
  EXPECT_DOUBLE_EQ(s.last_relative_benefit, 0.75);
  EXPECT_DOUBLE_EQ(s.lprev_trend.change, -2);
  EXPECT_THAT(s.l0_trend.slope.why_not, HasSubstr("4 positions"));
  EXPECT_TRUE(std::isnan(s.l0_trend.slope.value));
}

TEST(InnerLoopStatistics, SlopesKnowTheirErrorAmongCorrelatedNeighbours) {
  std::vector<double> x, line, wave;
  for (int t = 0; t < 300; ++t) {
    x.push_back(t);
    line.push_back(2 - 0.01 * t + 0.001 * noise(t));
    wave.push_back(std::sin(t / 40.0));  // neighbours are alike; there is no trend
  }
  const BlockSlope falling = block_slope(x, line);
  EXPECT_NEAR(falling.value, -0.01, 1e-5);
  EXPECT_TRUE(falling.falls());
  EXPECT_FALSE(falling.rises());
  EXPECT_EQ(falling.blocks, 10);
  const BlockSlope none = block_slope(x, wave);
  EXPECT_FALSE(none.falls() || none.rises());
  EXPECT_GT(none.standard_error, std::abs(none.value) / 2);
  const std::vector<double> constant(300, 0.5);
  EXPECT_FALSE(block_slope(x, constant).rises() || block_slope(x, constant).falls());
}

TEST(InnerLoopStatistics, MovingAveragesAndMeansOfFolds) {
  EXPECT_THAT(moving_average(std::vector<double>{1, 2, 3, 4}, 2), ElementsAre(1, 1.5, 2.5, 3.5));
  EXPECT_THAT(moving_average(std::vector<double>(40, 3.0), 10), ::testing::Each(3.0));
  InnerLossCurves a{{0, 1}, {1, 1}, {1, 1}, {1, 1}}, b{{0, 1, 2}, {3, 3, 3}, {2, 2, 2}, {0, 0, 0}};
  const InnerLossCurves both = mean_curves(std::vector{a, b});
  EXPECT_THAT(both.position, ElementsAre(0, 1, 2));
  EXPECT_THAT(both.l0, ElementsAre(2, 2, 3));
  EXPECT_THAT(both.lafter, ElementsAre(0.5, 0.5, 0));
}

TEST(InnerLoopDiagnosis, AHealthyLayerGetsNone) { EXPECT_THAT(names_of(diagnosed(healthy_layer())), IsEmpty()); }

TEST(InnerLoopDiagnosis, ARateOfZeroIsAnOverlap) {
  InnerLoopLayer layer = healthy_layer();
  layer.curves = curves_of(flat, flat, flat);
  layer.movement_end = 0;
  InnerLoopModel model = healthy_model();
  model.base_lr = 0;
  const LayerDiagnosis result = diagnosed(layer, model);
  EXPECT_THAT(names_of(result), ElementsAre("overlap"));
  EXPECT_THAT(result.found[0].finding, HasSubstr("0.0008"));  // the threshold, in numbers
  EXPECT_THAT(result.found[0].causes, Contains(HasSubstr("did not move")));
  EXPECT_THAT(result.found[0].yaml, HasSubstr("model.ttt.base_lr"));
}

TEST(InnerLoopDiagnosis, TwoKindsOfWrongOrderAreToldApart) {
  InnerLoopLayer large = healthy_layer();
  large.curves = curves_of(flat, taught, [](int t) { return 1.1 * taught(t); });
  const LayerDiagnosis step = diagnosed(large);
  EXPECT_THAT(names_of(step), ElementsAre("step_too_large"));
  EXPECT_THAT(step.found[0].finding, HasSubstr("lafter > lprev at 100 %"));
  EXPECT_THAT(step.found[0].yaml, HasSubstr("0.01, 0.03"));  // below the present rate of 0.1

  InnerLoopLayer harm = healthy_layer();
  harm.curves = curves_of(
      flat, [](int t) { return t < 16 ? flat(t) : 1.2 * flat(t) + 0.02 * noise(t + 7); },
      [](int t) { return 0.9 * flat(t); });
  const std::vector<std::string> names = names_of(diagnosed(harm));
  EXPECT_THAT(names, Contains("state_harms"));
  EXPECT_THAT(names, ::testing::Not(Contains("step_too_large")));
}

TEST(InnerLoopDiagnosis, Explosions) {
  const auto scaled = [](double factor) {
    InnerLoopLayer layer = healthy_layer();
    layer.curves = curves_of([=](int t) { return factor * flat(t); }, [=](int t) { return factor * taught(t); },
                             [=](int t) { return factor * 0.95 * taught(t); });
    return layer;
  };
  EXPECT_THAT(names_of(diagnosed(scaled(20))), ElementsAre("explosion"));
  // Large targets, well learned: nothing to warn of.
  EXPECT_THAT(names_of(diagnosed(scaled(3))), IsEmpty());
  InnerLoopLayer high = healthy_layer();
  const auto little = [](int t) {
    return t < 16 ? 3 * flat(t) : 3 * flat(t) * (1 - 0.02 * (1 - std::exp(-t / 100.0)));
  };
  high.curves = curves_of([](int t) { return 3 * flat(t); }, little, [&](int t) { return 0.99 * little(t); });
  const LayerDiagnosis warning = diagnosed(high);
  EXPECT_THAT(names_of(warning), ElementsAre("high_loss"));
  EXPECT_EQ(warning.found[0].severity, Severity::warning);
  EXPECT_THAT(warning.found[0].finding, HasSubstr("does not bring it down"));
  InnerLoopLayer broken = healthy_layer();
  for (std::size_t t = 100; t < broken.curves.size(); ++t) broken.curves.lafter[t] = kNan;
  const LayerDiagnosis diverging = diagnosed(broken);
  EXPECT_THAT(names_of(diverging), Contains("explosion"));
  EXPECT_THAT(diverging.found[0].finding, HasSubstr("300 of 400"));
  for (double& value : broken.curves.l0) value = std::numeric_limits<double>::infinity();
  EXPECT_THAT(names_of(diagnosed(broken)), ElementsAre("explosion"));
}

TEST(InnerLoopDiagnosis, NoUseOfContext) {
  InnerLoopLayer forgets = healthy_layer();  // the gain shrinks again along the stream
  const auto fading = [](int t) { return t < 16 ? flat(t) : flat(t) * (0.7 + 0.25 * t / kPositions); };
  forgets.curves = curves_of(flat, fading, [=](int t) { return 0.95 * fading(t); });
  const LayerDiagnosis rising = diagnosed(forgets);
  EXPECT_THAT(names_of(rising), ElementsAre("no_use_of_context"));
  EXPECT_THAT(rising.found[0].finding, HasSubstr("two standard errors"));

  InnerLoopLayer useless = healthy_layer();  // each update helps its own tokens alone
  useless.curves = curves_of(
      flat, [](int t) { return t < 16 ? flat(t) : flat(t) + 1e-4 * noise(t + 3); },
      [](int t) { return 0.9 * flat(t); });
  const LayerDiagnosis nothing = diagnosed(useless);
  EXPECT_THAT(names_of(nothing), Contains("no_use_of_context"));

  InnerLoopLayer harder = healthy_layer();  // l0 rises too: the data get harder, and the context still helps more
  const auto l0 = [](int t) { return flat(t) * (1 + 0.2 * t / kPositions); };
  const auto lprev = [=](int t) { return t < 16 ? l0(t) : l0(t) * (1 - 0.1 * t / kPositions); };
  harder.curves = curves_of(l0, lprev, [=](int t) { return 0.95 * lprev(t); });
  EXPECT_THAT(names_of(diagnosed(harder)), IsEmpty());
}

TEST(InnerLoopDiagnosis, ATttRnnThatStartsAnewIsNotJudgedByContext) {
  InnerLoopLayer layer = healthy_layer();
  layer.kind = "ttt_rnn";
  layer.mini_batch_size = 1;
  layer.reset_each_step = true;
  layer.carries = false;
  layer.curves = curves_of(flat, flat, [](int t) { return 0.9 * flat(t); });
  EXPECT_THAT(names_of(diagnosed(layer)), IsEmpty());
  layer.reset_each_step = false;
  EXPECT_THAT(names_of(diagnosed(layer)), Contains("state_not_carried"));
}

TEST(InnerLoopDiagnosis, Gates) {
  InnerLoopLayer shut = healthy_layer();
  shut.gate_mean = 5e-4;
  shut.gate_min = 1e-4;
  shut.gate_max = 9e-4;
  EXPECT_THAT(names_of(diagnosed(shut)), ElementsAre("gate_shut"));
  shut.gate_min = -0.2;  // both signs cancel in the mean; the layer is open
  shut.gate_max = 0.2;
  EXPECT_THAT(names_of(diagnosed(shut)), IsEmpty());

  InnerLoopLayer unmoved = healthy_layer();
  unmoved.gate_mean = unmoved.gate_min = unmoved.gate_max = unmoved.gate_initial = std::tanh(0.1);
  const LayerDiagnosis still = diagnosed(unmoved);
  EXPECT_THAT(names_of(still), ElementsAre("gate_unmoved"));
  EXPECT_EQ(still.found[0].severity, Severity::warning);
  unmoved.trained = false;  // before training that is as it should be
  EXPECT_THAT(names_of(diagnosed(unmoved)), IsEmpty());
}

TEST(InnerLoopDiagnosis, MissingWeightsAndMissingData) {
  InnerLoopLayer layer = healthy_layer();
  layer.weights_found = false;
  InnerLoopModel model = healthy_model();
  model.missing = {"layers.3.ttt.W1", "layers.3.ttt.b1"};
  const LayerDiagnosis none = diagnosed(layer, model);
  EXPECT_THAT(names_of(none), ElementsAre("no_ttt_weights"));
  EXPECT_THAT(none.found[0].finding, HasSubstr("layers.3.ttt.W1"));

  InnerLoopLayer silent = healthy_layer();
  silent.curves = {};
  const LayerDiagnosis empty = diagnosed(silent);
  EXPECT_THAT(names_of(empty), ElementsAre("no_data"));
  EXPECT_THAT(empty.found[0].finding, HasSubstr("0 positions of 2048"));
}

TEST(InnerLoopDiagnosis, AStreamShorterThanAMiniBatch) {
  InnerLoopLayer layer = healthy_layer();
  layer.curves = curves_of(
      flat, flat, [](int t) { return 0.9 * flat(t); }, 12);
  InnerLoopModel model = healthy_model();
  model.stream_length = 12;
  const LayerDiagnosis result = diagnosed(layer, model);
  EXPECT_THAT(names_of(result), ElementsAre("stream_shorter_than_mini_batch"));
  EXPECT_THAT(result.found[0].yaml, HasSubstr("mini_batch_size: 3"));
}

TEST(InnerLoopDiagnosis, AStateThatIsNotCarried) {
  InnerLoopLayer calls = healthy_layer();
  calls.carry_gap = 0.4;
  const LayerDiagnosis gap = diagnosed(calls);
  EXPECT_THAT(names_of(gap), ElementsAre("state_not_carried"));
  EXPECT_THAT(gap.found[0].finding, HasSubstr("0.4"));
  EXPECT_EQ(gap.found[0].severity, Severity::problem);
  calls.carries = false;  // it is made to start anew, which streams in several calls do not bear
  const LayerDiagnosis meant = diagnosed(calls);
  EXPECT_THAT(names_of(meant), ElementsAre("state_not_carried"));
  EXPECT_EQ(meant.found[0].severity, Severity::warning);

  InnerLoopLayer batches = healthy_layer();
  batches.curves = curves_of(flat, flat, [](int t) { return 0.9 * flat(t); });
  EXPECT_THAT(names_of(diagnosed(batches)), ElementsAre("state_not_carried"));
}

TEST(InnerLoopDiagnosis, AnImprovementThatTheModelDoesNotSee) {
  InnerLoopModel model = healthy_model();
  model.nll = 2.2999;
  model.codebook_shares = {0.9, 0.1};
  const LayerDiagnosis by_bypass = diagnosed(healthy_layer(), model);
  EXPECT_THAT(names_of(by_bypass), ElementsAre("invisible"));
  EXPECT_THAT(by_bypass.found[0].finding,
              ::testing::AllOf(HasSubstr("KL of 0.2"), HasSubstr("90 %"), HasSubstr("4 layers from the output")));
  InnerLoopModel by_position = healthy_model();
  by_position.nll = by_position.nll_without_ttt = kNan;
  for (int t = 0; t < kPositions; ++t) by_position.position_loss.push_back(2.0 + 0.1 * noise(t));
  EXPECT_THAT(names_of(diagnosed(healthy_layer(), by_position)), ElementsAre("invisible"));
  for (int t = 0; t < kPositions; ++t) by_position.position_loss[static_cast<std::size_t>(t)] -= 0.002 * t;
  EXPECT_THAT(names_of(diagnosed(healthy_layer(), by_position)), IsEmpty());
}

}  // namespace
}  // namespace tenfold

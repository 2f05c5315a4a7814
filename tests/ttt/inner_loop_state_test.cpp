// The rules of the inner loop's state: what is a parameter, what is a stream's own, and that pieces do not matter.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <numeric>

#include "experiments/error.h"
#include "tests/ttt/inner_loop_samples.h"
#include "ttt/inner_loop.h"
#include "ttt/inner_loss.h"

namespace tenfold::testing {
namespace {

// Tiny tensors: threads would do nothing but wait for one another.
[[maybe_unused]] const bool one_thread = (at::set_num_threads(1), true);

struct Streamed {
  at::Tensor output;
  InnerState state;
  InnerLossRecorder::Curves curves;
};

Streamed feed(const InnerSample& s, const std::vector<std::int64_t>& pieces, bool finish) {
  InnerLossRecorder recorder({0}, s.members, 64, at::kCPU);
  Streamed result;
  std::vector<at::Tensor> outputs;
  std::int64_t first = 0;
  for (const std::int64_t piece : pieces) {
    outputs.push_back(inner_loop(s.model, s.piece(first, piece), s.options, &result.state, &recorder, 0).output);
    first += piece;
  }
  EXPECT_EQ(first, s.tokens);
  if (finish) finish_streams(s.model, s.in.row_coefficient, s.options, result.state, &recorder, 0);
  result.output = at::cat(outputs, 3);
  result.curves = recorder.curves(1)[0];
  return result;
}

InnerSample sample(int layers, at::ScalarType type = at::kFloat, bool rows = true) {
  InnerSample s;
  s.layers = layers;
  s.tokens = 23;
  s.options.mini_batch_size = 5;
  s.type = type;
  s.rows = rows;
  s.fill();
  return s;
}

void expect_equal(const std::vector<at::Tensor>& got, const std::vector<at::Tensor>& expected, double tolerance) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_LT(relative_error(got[i], expected[i]), tolerance) << i;
}

void expect_close(const std::vector<double>& got, const std::vector<double>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-5 * std::abs(expected[i])) << i;
}

struct Pieces {
  const char* name;
  std::vector<std::int64_t> lengths;
};

class Streaming : public ::testing::TestWithParam<std::tuple<int, bool, Pieces>> {};

TEST_P(Streaming, PiecesDoNotMatter) {
  const auto& [layers, rows, pieces] = GetParam();
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    const InnerSample s = sample(layers, type, rows);
    const double tolerance = type == at::kFloat ? 1e-5 : 1e-13;
    const Streamed whole = feed(s, {s.tokens}, false), cut = feed(s, pieces.lengths, false);
    EXPECT_LT(relative_error(cut.output, whole.output), tolerance);
    EXPECT_LT(relative_error(cut.output, inner_loop(s.model, s.in, s.options).output), tolerance);
    expect_equal(cut.state.weights, whole.state.weights, tolerance);
    expect_equal(cut.state.biases, whole.state.biases, tolerance);
    expect_equal(cut.state.weight_sums, whole.state.weight_sums, tolerance);
    expect_equal(cut.state.bias_sums, whole.state.bias_sums, tolerance);
    EXPECT_EQ(cut.state.position, 23);
    expect_close(cut.curves.l0, whole.curves.l0);
    expect_close(cut.curves.lprev, whole.curves.lprev);
    expect_close(cut.curves.lafter, whole.curves.lafter);
    EXPECT_EQ(cut.curves.l0.size(), 20u) << "the open mini-batch has no losses yet";
  }
}

// What a whole sequence records without a state is what a finished stream records.
TEST_P(Streaming, TheEndClosesTheOpenMiniBatch) {
  const auto& [layers, rows, pieces] = GetParam();
  const InnerSample s = sample(layers, at::kDouble, rows);
  InnerLossRecorder recorder({0}, s.members, 64, at::kCPU);
  inner_loop(s.model, s.in, s.options, nullptr, &recorder, 0);
  const auto whole = recorder.curves(1)[0];
  const Streamed cut = feed(s, pieces.lengths, true);
  EXPECT_EQ(cut.curves.l0.size(), 23u);
  expect_close(cut.curves.l0, whole.l0);
  expect_close(cut.curves.lprev, whole.lprev);
  expect_close(cut.curves.lafter, whole.lafter);
  EXPECT_TRUE(cut.state.weight_sums.empty());
  const auto before_end = feed(s, pieces.lengths, false).state;
  expect_equal(current_weights(cut.state, s.in.row_coefficient, s.options),
               current_weights(before_end, s.in.row_coefficient, s.options), 1e-13);
}

INSTANTIATE_TEST_SUITE_P(All, Streaming,
                         ::testing::Combine(::testing::Values(1, 2, 3), ::testing::Bool(),
                                            ::testing::Values(Pieces{"tokens", std::vector<std::int64_t>(23, 1)},
                                                              Pieces{"uneven", {3, 1, 7, 2, 10}},
                                                              Pieces{"mini_batches", {5, 5, 10, 3}},
                                                              Pieces{"inside_one", {21, 1, 1}})),
                         [](const auto& info) {
                           return std::string(std::get<2>(info.param).name) + "_" +
                                  std::to_string(std::get<0>(info.param)) +
                                  (std::get<1>(info.param) ? "_rows" : "_no_rows");
                         });

TEST(InnerState, TheLearnedInitialWeightsAreNeverWrittenTo) {
  InnerSample s = sample(2);
  std::vector<at::Tensor> before;
  for (const at::Tensor& argument : s.arguments()) before.push_back(argument.clone());
  feed(s, {4, 9, 10}, true);
  inner_loop(s.model, s.in, s.options);
  const auto after = s.arguments();
  for (std::size_t i = 0; i < before.size(); ++i) {
    EXPECT_TRUE(at::equal(before[i], after[i])) << i;
    EXPECT_EQ(after[i]._version(), 0u) << i;
  }
}

TEST(InnerState, CarriesOverWithinAStreamAndBeginsAnewAtTheNext) {
  const InnerSample s = sample(2);
  InnerState state;
  const at::Tensor first = inner_loop(s.model, s.in, s.options, &state).output;
  const double moved = movement_norm(s.model, state, s.in.row_coefficient, s.options).min().item<double>();
  EXPECT_GT(moved, 1e-3);
  const at::Tensor second = inner_loop(s.model, s.in, s.options, &state).output;
  EXPECT_GT(relative_error(second, first), 1e-3);
  InnerState next_stream;
  EXPECT_FALSE(movement_norm(s.model, next_stream, s.in.row_coefficient, s.options).defined());
  EXPECT_TRUE(at::equal(inner_loop(s.model, s.in, s.options, &next_stream).output, first));
}

TEST(InnerState, AStateOfOtherStreamsIsRefused) {
  const InnerSample s = sample(2);
  InnerState state;
  inner_loop(s.model, s.in, s.options, &state);
  InnerSample other;
  other.streams = 1;
  other.options = s.options;
  other.type = s.type;
  other.fill();
  EXPECT_THROW(inner_loop(other.model, other.in, other.options, &state), Error);
}

// Padding with any content changes nothing, and a partial mini-batch moves by its real tokens alone.
TEST(InnerState, PaddingNeitherUpdatesNorIsAnswered) {
  for (const bool rows : {true, false}) {
    InnerSample s = sample(2, at::kDouble, rows);
    InnerSample padded = s;
    padded.in.step_weight = at::zeros({s.members, s.streams, s.tokens}, at::kDouble);
    const std::vector<std::int64_t> lengths{23, 13, 7};
    for (std::int64_t b = 0; b < 3; ++b) padded.in.step_weight.select(1, b).narrow(1, 0, lengths[b]).fill_(1);
    padded.options.clip_norm = s.options.clip_norm = 1.5;
    InnerLossRecorder recorder({0}, s.members, 64, at::kCPU), expected_losses({0}, s.members, 64, at::kCPU);
    InnerState state;
    const InnerLoopResult got = inner_loop(padded.model, padded.in, padded.options, &state);
    inner_loop(padded.model, padded.in, padded.options, nullptr, &recorder, 0);
    const auto weights = current_weights(state, s.in.row_coefficient, s.options);
    double clipped = 0;
    for (std::int64_t b = 0; b < 3; ++b) {
      InnerTokens alone = s.piece(0, lengths[b]);
      for (at::Tensor* x : {&alone.q, &alone.k, &alone.v, &alone.rate}) *x = x->narrow(1, b, 1);
      InnerState alone_state;
      const InnerLoopResult expected = inner_loop(s.model, alone, s.options, &alone_state);
      inner_loop(s.model, alone, s.options, nullptr, &expected_losses, 0);
      clipped += expected.clipped_share[0].item<double>() * static_cast<double>(lengths[b]);
      EXPECT_LT(relative_error(got.output.narrow(1, b, 1).narrow(3, 0, lengths[b]), expected.output), 1e-13);
      EXPECT_EQ(got.output.select(1, b).narrow(2, lengths[b], s.tokens - lengths[b]).abs().sum().item<double>(), 0);
      const auto alone_weights = current_weights(alone_state, s.in.row_coefficient, s.options);
      for (std::size_t i = 0; i < weights.size(); ++i)
        EXPECT_LT(relative_error(weights[i].narrow(1, b, 1), alone_weights[i]), 1e-13) << "stream " << b;
    }
    EXPECT_NEAR(got.clipped_share[0].item<double>(), clipped / (23 + 13 + 7), 1e-12);
    const auto losses = recorder.curves(0)[0], reference = expected_losses.curves(0)[0];
    expect_close(losses.weight, reference.weight);
    expect_close(losses.l0, reference.l0);
    expect_close(losses.lprev, reference.lprev);
    expect_close(losses.lafter, reference.lafter);
  }
}

TEST(InnerState, PaddingEndsAStreamInItsLastCall) {
  InnerSample s = sample(2, at::kDouble);
  InnerState state;
  inner_loop(s.model, s.piece(0, 8), s.options, &state);
  InnerTokens last = s.piece(8, 15);
  last.step_weight = at::zeros({s.members, s.streams, 15}, at::kDouble);
  const std::vector<std::int64_t> lengths{15, 4, 0};
  for (std::int64_t b = 0; b < 3; ++b) last.step_weight.select(1, b).narrow(1, 0, lengths[b]).fill_(1);
  inner_loop(s.model, last, s.options, &state);
  const auto weights = current_weights(state, s.in.row_coefficient, s.options);
  for (std::int64_t b = 0; b < 3; ++b) {
    InnerTokens alone = s.piece(0, 8 + lengths[b]);
    for (at::Tensor* x : {&alone.q, &alone.k, &alone.v, &alone.rate}) *x = x->narrow(1, b, 1);
    InnerState alone_state;
    inner_loop(s.model, alone, s.options, &alone_state);
    const auto expected = current_weights(alone_state, s.in.row_coefficient, s.options);
    for (std::size_t i = 0; i < weights.size(); ++i)
      EXPECT_LT(relative_error(weights[i].narrow(1, b, 1), expected[i]), 1e-13) << "stream " << b;
  }
  EXPECT_THROW(inner_loop(s.model, s.piece(0, 1), s.options, &state), Error);
}

// An hour of tokens takes the memory of a minute.
TEST(InnerState, DoesNotGrowWithTheStream) {
  InnerSample s = sample(2);
  InnerLossRecorder recorder({0}, s.members, 16, at::kCPU);
  InnerState state;
  std::vector<std::int64_t> bytes;
  for (int i = 0; i < 100; ++i) {
    inner_loop(s.model, s.piece(0, 7), s.options, &state, &recorder, 0);
    bytes.push_back(state.bytes());
    for (const at::Tensor& weight : state.weights) EXPECT_FALSE(weight.requires_grad());
  }
  EXPECT_EQ(state.position, 700);
  const std::vector<std::int64_t> early(bytes.begin(), bytes.begin() + 10), late(bytes.end() - 10, bytes.end());
  EXPECT_EQ(early, late);
}

TEST(InnerState, GradientsEndAtTheBorderOfACall) {
  InnerSample s = sample(2);
  s.require_gradients();
  InnerState state;
  inner_loop(s.model, s.in, s.options, &state);
  for (const auto* list : {&state.weights, &state.biases, &state.weight_sums, &state.bias_sums})
    for (const at::Tensor& tensor : *list) EXPECT_FALSE(tensor.requires_grad());
}

TEST(InnerState, FastWeightsMoveWithoutAutogradAsWithIt) {
  InnerSample s = sample(2);
  s.require_gradients();
  InnerState with, without;
  const at::Tensor expected = inner_loop(s.model, s.in, s.options, &with).output;
  EXPECT_TRUE(expected.requires_grad());
  at::NoGradGuard no_grad;
  const at::Tensor got = inner_loop(s.model, s.in, s.options, &without).output;
  EXPECT_FALSE(got.requires_grad());
  EXPECT_TRUE(at::equal(got, expected));
  for (std::size_t i = 0; i < with.weights.size(); ++i) EXPECT_TRUE(at::equal(with.weights[i], without.weights[i]));
}

TEST(InnerState, ARateOfZeroMovesNothing) {
  InnerSample s = sample(2);
  s.in.rate = at::zeros_like(s.in.rate);
  InnerState state;
  inner_loop(s.model, s.in, s.options, &state);
  EXPECT_EQ(movement_norm(s.model, state, s.in.row_coefficient, s.options).max().item<double>(), 0);
}

TEST(InnerState, VideoDitRefusesMiniBatchesInPieces) {
  InnerSample s = sample(2, at::kFloat, false);
  s.options.dialect = InnerDialect::video_dit;
  InnerState state;
  inner_loop(s.model, s.piece(0, 5), s.options, &state);
  inner_loop(s.model, s.piece(5, 3), s.options, &state);
  EXPECT_THROW(inner_loop(s.model, s.piece(8, 2), s.options, &state), Error);
}

// A member has the same bits alone and in an array, gradients too.
TEST(InnerMembers, DoNotMix) {
  for (const int layers : {1, 2, 3}) {
    InnerSample s = sample(layers);
    s.members = 3;
    s.streams = 4;
    s.features = 8;
    s.fill();
    s.require_gradients();
    const at::Tensor probe = normal({3, 4, 2, 23, 8}, 5);
    const at::Tensor output = inner_loop(s.model, s.in, s.options).output;
    const auto gradients = torch::autograd::grad({(output * probe).sum()}, s.arguments());
    for (std::int64_t k = 0; k < 3; ++k) {
      InnerSample alone = s;
      const auto own = [&](at::Tensor& x) { x = x.detach().narrow(0, k, 1).clone().requires_grad_(); };
      for (at::Tensor* x : {&alone.in.q, &alone.in.k, &alone.in.v, &alone.in.rate, &alone.in.row_coefficient,
                            &alone.model.norm_weight, &alone.model.norm_bias})
        own(*x);
      for (auto* list : {&alone.model.weights, &alone.model.biases})
        for (at::Tensor& x : *list) own(x);
      const at::Tensor one = inner_loop(alone.model, alone.in, alone.options).output;
      EXPECT_TRUE(at::equal(one[0], output[k])) << layers << " layers, member " << k;
      const auto own_gradients = torch::autograd::grad({(one * probe.narrow(0, k, 1)).sum()}, alone.arguments());
      for (std::size_t i = 0; i < gradients.size(); ++i)
        EXPECT_TRUE(at::equal(own_gradients[i][0], gradients[i][k]))
            << layers << " layers, member " << k << ", argument " << i << ": "
            << relative_error(own_gradients[i][0], gradients[i][k]);
    }
  }
}

TEST(InnerLossRecorder, MeansOverStreamsByPosition) {
  InnerLossRecorder recorder({2, 5}, 2, 4, at::kCPU);
  EXPECT_TRUE(recorder.wants(5));
  EXPECT_FALSE(recorder.wants(3));
  const at::Tensor l0 = at::arange(12, at::kFloat).view({2, 2, 3});  // (K, B, T)
  const at::Tensor weight = at::tensor({1, 1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0}, at::kFloat).view({2, 2, 3});
  at::Tensor with_nan = l0.clone();
  with_nan[0][1][2] = std::numeric_limits<double>::quiet_NaN();  // padding
  recorder.add(5, with_nan, l0 + 100, l0 + 200, weight);
  recorder.add(5, l0, l0 + 100, l0 + 200, {}, 2);
  recorder.add(3, l0, l0, l0, {}, 0);
  recorder.add(5, l0, l0, l0, {}, 4);
  const auto curves = recorder.curves(0);
  ASSERT_EQ(curves.size(), 2u);
  EXPECT_EQ(curves[0].layer, 2);
  EXPECT_TRUE(curves[0].l0.empty());
  EXPECT_EQ(curves[1].layer, 5);
  EXPECT_EQ(curves[1].weight, (std::vector<double>{2, 1, 3, 2}));
  expect_close(curves[1].l0, {1.5, 1, 5.0 / 3, 2.5});
  expect_close(curves[1].lprev, {101.5, 101, 305.0 / 3, 102.5});
  EXPECT_EQ(curves[1].lafter[3], 202.5);
  recorder.reset();
  EXPECT_TRUE(recorder.curves(1)[1].l0.empty());
}

}  // namespace
}  // namespace tenfold::testing

// Arrays of rank groups: as many threads as ranks, over TCP, against the same array on one trainer.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <future>

#include "experiments/error.h"
#include "tests/trainer/array_harness.h"
#include "tests/trainer/local_meeting.h"
#include "tests/trainer/tensors.h"
#include "trainer/agreement.h"
#include "trainer/checkpoint.h"
#include "trainer/silent_reporter.h"

namespace tenfold::testing {
namespace {

struct Ranks {
  std::vector<Recorder> recorders;
  std::vector<std::string> errors;
};

using Prepare = std::function<void(Recorder&, int rank)>;

Ranks run_ranks(const ArrayJob& whole, int size, const Prepare& prepare = {}) {
  Ranks ranks{std::vector<Recorder>(static_cast<std::size_t>(size)), {}};
  LocalMeeting meeting;
  std::vector<std::future<std::string>> threads;
  for (int rank = 0; rank < size; ++rank) {
    Recorder& recorder = ranks.recorders[static_cast<std::size_t>(rank)];
    if (prepare) prepare(recorder, rank);
    threads.push_back(std::async(std::launch::async, [&whole, &meeting, &recorder, rank, size]() -> std::string {
      try {
        ArrayJob job = whole;
        job.group = {rank, size, "localhost", true};
        Engine("cpu", 1).run(job, recorder, &meeting);
        return "";
      } catch (const std::exception& error) {
        return error.what();
      }
    }));
  }
  for (auto& thread : threads) ranks.errors.push_back(thread.get());
  return ranks;
}

Recorder led(const ArrayJob& job, int size, const Prepare& prepare = {}) {
  Ranks ranks = run_ranks(job, size, prepare);
  for (const std::string& error : ranks.errors) EXPECT_EQ(error, "");
  for (std::size_t rank = 1; rank < ranks.recorders.size(); ++rank) {
    EXPECT_TRUE(ranks.recorders[rank].members.empty()) << "the leader alone reports";
    EXPECT_TRUE(ranks.recorders[rank].checkpoints.empty());
  }
  return std::move(ranks.recorders.front());
}

std::string text_file(const Workspace& space) {
  const std::filesystem::path file = space.folder() / "text.txt";
  std::ofstream out(file);
  for (int i = 0; i < 60; ++i) out << "to be or not to be, that is question " << i % 7 << ".\n";
  return file.string();
}

// Set while this lives.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~Variable() { unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
};

struct Kind {
  const char* name;
  const char* model;
};

void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

ExperimentSpec spec_of(const Workspace& space, const Kind& kind) {
  const std::string name = kind.name;
  std::string dataset =
      "{kind: synthetic, samples: 90, features: 7, classes: 3, separation: 4, seed: 5, shift: {kind: gaussian_noise, "
      "severity: 5}}";
  if (name == "cnn") dataset = "{kind: digits}";
  if (name == "ttt_rnn" || name == "gru")
    dataset =
        "{kind: synthetic_sequences, samples: 60, features: 6, classes: 4, group_count: 3, min_steps: 3, max_steps: "
        "15, mean_steps: 8, separation: 3, length_buckets: 2}";
  if (name == "transformer_lm") dataset = "{kind: text, path: " + text_file(space) + ", sequence_length: 24}";
  const std::string metrics = name == "transformer_lm" ? "[accuracy, nll]" : "[accuracy, nll, ece]";
  return spec_from_yaml("dataset: " + dataset + "\nfolds: {kind: kfold, k: 3}\nmodel: " + kind.model +
                        "\ntrain: {steps: 6, batch_size: 18, optimizer: {kind: sgd, lr: 0.5, momentum: 0}}\n"
                        "ttt: {steps: 1, batch_size: 18, lr: 0.01, query_size: 18, optimizer: {kind: sgd}}\nmetrics: " +
                        metrics + "\ncheckpoint: {every_steps: 2}\n");
}

class GroupArrays : public ::testing::TestWithParam<Kind> {};

// By name, of a member of the newest checkpoint.
StackedTensors parameters_of(const Recorder& recorder) {
  CheckpointReader reader;
  StackedTensors parameters;
  for (const auto& [name, tensor] : reader.read(newest(recorder, 0)).tensors)
    if (name.starts_with("parameter/")) parameters[name] = tensor;
  return parameters;
}

void expect_close(double a, double b, double relative, const std::string& what) {
  EXPECT_LE(std::abs(a - b), relative * std::max(1e-3, std::abs(b))) << what << ": " << a << " against " << b;
}

TEST_P(GroupArrays, HaveTheFirstGradientsOfOneTrainer) {
  const Workspace space;
  ExperimentSpec one = spec_of(space, GetParam());
  one.train.steps = 1;
  const std::vector<Case> cases = {{one, 0, 0, {}, {}}};
  ExperimentSpec still = one;
  still.train.optimizer.lr = 0;
  still.train.schedule.kind = "constant";
  const StackedTensors before = parameters_of(run(space, Stage::fit, {{still, 0, 0, {}, {}}}, "before"));
  const Recorder alone = run(space, Stage::fit, cases, "alone");
  const StackedTensors after = parameters_of(alone);
  for (const int size : {1, 2, 4}) {
    const Recorder group = led(space.job(Stage::fit, cases, "group" + std::to_string(size)), size);
    const auto& row = group.members.at(0).train_steps.at(0);
    const auto& expected = alone.members.at(0).train_steps.at(0);
    expect_close(row.loss, expected.loss, 1e-5, "loss of " + std::to_string(size));
    expect_close(row.grad_norm, expected.grad_norm, 1e-5, "gradient norm of " + std::to_string(size));
    double largest = 0, difference = 0;
    for (const auto& [name, tensor] : parameters_of(group)) {
      // Plain SGD: what a parameter lost is its gradient times the rate.
      largest = std::max(largest, (before.at(name) - after.at(name)).abs().max().item<double>());
      difference = std::max(difference, (tensor - after.at(name)).abs().max().item<double>());
    }
    EXPECT_GT(largest, 0);
    EXPECT_LE(difference, 1e-5 * std::max(largest, 1e-2)) << size << " ranks";
  }
}

TEST_P(GroupArrays, LearnAndAdaptAsOneTrainerDoes) {
  const Workspace space;
  ExperimentSpec spec = spec_of(space, GetParam());
  spec.train.clip_norm = 0.5;
  spec.train.optimizer.lr = 0.05;
  std::vector<Case> cases = {{spec, 0, 0, {}, {}}, {spec, 0, 1, {}, {}}};
  const Recorder alone = run(space, Stage::fit, cases, "alone");
  for (std::size_t k = 0; k < cases.size(); ++k) cases[k].fit = newest(alone, static_cast<std::int64_t>(k));
  const Recorder adapted = run(space, Stage::adapt, cases, "adapted");
  for (const int size : {2, 4}) {
    std::vector<Case> fits = cases;
    for (Case& one : fits) one.fit.reset();
    // Every checkpoint compares the ranks' parameters bit by bit.
    const Recorder group = led(space.job(Stage::fit, fits, "fit" + std::to_string(size)), size);
    const Recorder trials = led(space.job(Stage::adapt, cases, "trial" + std::to_string(size)), size);
    EXPECT_GE(group.checkpoints.size(), 3u);
    for (std::size_t k = 0; k < cases.size(); ++k) {
      const auto& rows = group.members.at(k).train_steps;
      const auto& expected = alone.members.at(k).train_steps;
      ASSERT_EQ(rows.size(), expected.size());
      for (std::size_t i = 0; i < rows.size(); ++i) expect_close(rows[i].loss, expected[i].loss, 1e-3, "loss");
      EXPECT_EQ(group.members.at(k).outcome.status, TrialStatus::done);
      EXPECT_EQ(group.members.at(k).evaluations.size(), alone.members.at(k).evaluations.size());
      expect_close(group.metric(k, Phase::train, "nll"), alone.metric(k, Phase::train, "nll"), 1e-3, "nll");
      const TttStepRow &pass = trials.members.at(k).ttt_steps.at(0), &like = adapted.members.at(k).ttt_steps.at(0);
      expect_close(pass.total, like.total, 1e-5, "total");
      expect_close(pass.entropy, like.entropy, 1e-5, "entropy");
      EXPECT_NEAR(pass.diversity, like.diversity, 1e-6);
      expect_close(pass.grad_norm, like.grad_norm, 1e-5, "gradient norm");
      EXPECT_EQ(pass.classes_predicted, like.classes_predicted);
      EXPECT_EQ(pass.max_class_share, like.max_class_share);
      for (const Phase phase : {Phase::before, Phase::after, Phase::online})
        for (const char* name : {"nll", "accuracy"}) {
          const double value = trials.metric(k, phase, name), expected_value = adapted.metric(k, phase, name);
          EXPECT_EQ(std::isnan(value), std::isnan(expected_value));
          if (!std::isnan(expected_value)) expect_close(value, expected_value, 1e-3, name);
        }
    }
  }
}

// A gradient is the same sum over ranks whichever bucket it is in.
TEST_P(GroupArrays, HaveTheSameBitsInSmallBuckets) {
  const Workspace space;
  const ExperimentSpec spec = spec_of(space, GetParam());
  std::vector<Case> cases = {{spec, 0, 0, {}, {}}, {spec, 0, 1, {}, {}}};
  for (const int size : {2, 4}) {
    for (Case& one : cases) one.fit.reset();
    const ArrayJob job = space.job(Stage::fit, cases, "fit" + std::to_string(size));
    const Recorder usual = led(job, size);
    for (std::size_t k = 0; k < cases.size(); ++k) cases[k].fit = newest(usual, static_cast<std::int64_t>(k));
    const ArrayJob trials = space.job(Stage::adapt, cases, "trial" + std::to_string(size));
    const Recorder adapted = led(trials, size);
    for (const char* bytes : {"1", "256"}) {
      const Variable small("TENFOLD_BUCKET_BYTES", bytes);
      ArrayJob again = job;
      again.array += "buckets";
      const Recorder fits = led(again, size), others = led(trials, size);
      for (std::size_t k = 0; k < cases.size(); ++k) {
        expect_equal(fits.members.at(k), usual.members.at(k));
        expect_equal(others.members.at(k), adapted.members.at(k));
      }
      const StackedTensors parameters = parameters_of(usual);
      for (const auto& [name, tensor] : parameters_of(fits))
        EXPECT_TRUE(at::equal(tensor, parameters.at(name))) << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models, GroupArrays,
    ::testing::Values(Kind{"mlp", "{kind: mlp, hidden: [12], norm: layer, dropout: 0.2}"},
                      Kind{"batch_norm", "{kind: mlp, hidden: [12, 8], norm: batch, dropout: 0.1}"},
                      Kind{"cnn", "{kind: cnn, channels: [3], hidden: [8], norm: layer, dropout: 0.2}"},
                      Kind{"ttt_rnn", "{kind: ttt_rnn, layers: 2, units: 6, dropout: 0.2, ttt: {inner: per_sequence}}"},
                      Kind{"transformer_lm",
                           "{kind: transformer_lm, layers: 2, width: 16, heads: 2, ttt: {kind: linear, layers: last:1, "
                           "mini_batch_size: 4}}"}));

// Methods, and samples that do not fill the batches of all ranks.
TEST(GroupAdaptation, IsTheSameByEveryMethod) {
  const Workspace space;
  for (const char* ttt :
       {"{steps: 2, batch_size: 16, lr: 0.01, query_size: 21, adaptive_weight: {enabled: true}, eval_every_steps: 1}",
        "{method: tent, steps: 2, batch_size: 16, lr: 0.01, query_size: 21}",
        "{method: shot_im, steps: 2, batch_size: 5, lr: 0.01, query_size: 21, reset: batch}",
        "{method: bn, steps: 1, batch_size: 16, query_size: 21}", "{method: source}"}) {
    ExperimentSpec spec = spec_from_yaml(
        "dataset: {kind: synthetic, samples: 120, features: 7, classes: 3, separation: 4, seed: 5}\n"
        "folds: {kind: stratified, k: 4}\nmodel: {kind: mlp, hidden: [12], norm: batch, dropout: 0.2}\n"
        "train: {epochs: 2, batch_size: 16}\nttt: " +
        std::string(ttt) + "\n");
    spec.ttt.optimizer.kind = "sgd";  // Adam would amplify the rounding of gradients that are almost zero
    const Fits fits = fit(space, spec, 2, "fit");
    const std::vector<Case> cases = {{spec, 0, 0, {}, fits.last[0]}, {spec, 0, 1, {}, fits.last[1]}};
    const Recorder alone = run(space, Stage::adapt, cases, "alone");
    for (const int size : {2, 3}) {
      const Recorder group = led(space.job(Stage::adapt, cases, "group"), size);
      for (std::size_t k = 0; k < cases.size(); ++k) {
        const auto &rows = group.members.at(k).ttt_steps, &expected = alone.members.at(k).ttt_steps;
        ASSERT_EQ(rows.size(), expected.size()) << ttt;
        for (std::size_t i = 0; i < rows.size(); ++i) {
          expect_close(rows[i].total, expected[i].total, 1e-4, ttt);
          expect_close(rows[i].diversity_weight, expected[i].diversity_weight, 1e-4, ttt);
          EXPECT_EQ(rows[i].classes_predicted, expected[i].classes_predicted) << ttt;
        }
        ASSERT_EQ(group.members.at(k).evaluations.size(), alone.members.at(k).evaluations.size()) << ttt;
        for (std::size_t i = 0; i < group.members.at(k).evaluations.size(); ++i)
          expect_close(group.members.at(k).evaluations[i].value, alone.members.at(k).evaluations[i].value, 1e-3, ttt);
      }
    }
  }
}

// Validation decides in a group as on one trainer: rates, patience, the best parameters.
TEST(GroupFits, StopEarlyTogether) {
  const Workspace space;
  ExperimentSpec spec = small_spec();
  spec.folds.validation = 0.2;
  spec.train.epochs = 12;
  spec.train.optimizer.lr = 0.05;
  spec.train.early_stopping.patience = 1;
  spec.train.early_stopping.min_delta = 0.05;
  const Recorder alone = run(space, Stage::fit, {{spec, 0, 0, {}, {}}}, "alone");
  const Recorder group = led(space.job(Stage::fit, {{spec, 0, 0, {}, {}}}, "group"), 2);
  EXPECT_LT(alone.members.at(0).outcome.steps, 12 * 9) << "the test needs a fit that stops early";
  EXPECT_EQ(group.members.at(0).outcome.steps, alone.members.at(0).outcome.steps);
  expect_close(group.metric(0, Phase::validation, "nll"), alone.metric(0, Phase::validation, "nll"), 1e-2, "nll");
}

class Breaks final : public SilentReporter {
 public:
  void progress(const Progress& progress) override {
    if (progress.step == 3) throw std::runtime_error("broken on purpose");
  }
};

TEST(GroupFits, EndWhenARankDies) {
  const Workspace space;
  const ArrayJob whole = space.job(Stage::fit, {{small_spec(), 0, 0, {}, {}}}, "broken");
  LocalMeeting meeting;
  std::vector<std::future<std::string>> ranks;
  for (int rank = 0; rank < 3; ++rank)
    ranks.push_back(std::async(std::launch::async, [&whole, &meeting, rank]() -> std::string {
      Recorder recorder;
      Breaks breaks;
      ArrayJob job = whole;
      job.group = {rank, 3, "localhost", true};
      try {
        Engine("cpu", 1).run(job, rank == 2 ? static_cast<Reporter&>(breaks) : recorder, &meeting);
        return "";
      } catch (const std::exception& error) {
        return error.what();
      }
    }));
  EXPECT_THAT(ranks[0].get(), ::testing::HasSubstr("rank 2 of the trial's group"));
  EXPECT_THAT(ranks[1].get(), ::testing::HasSubstr("rank 0 of the trial's group"));
  EXPECT_EQ(ranks[2].get(), "broken on purpose");
}

// A drain at the leader stops all; the same number of ranks goes on bit for bit, another as closely as sums allow.
TEST(GroupFits, DrainAndGoOnInGroupsOfAnySize) {
  const Workspace space;
  ExperimentSpec spec = small_spec();
  spec.checkpoint.every_steps = 4;
  const ArrayJob job = space.job(Stage::fit, {{spec, 0, 0, {}, {}}}, "whole");
  const Recorder whole = led(job, 2);
  ArrayJob first = job;
  first.array = "first";
  Ranks ranks = run_ranks(first, 2, [](Recorder& recorder, int) { recorder.drain_after = 2; });
  EXPECT_EQ(ranks.errors, std::vector<std::string>(2));
  const Recorder& part = ranks.recorders[0];
  ASSERT_EQ(part.members.at(0).outcome.status, TrialStatus::stopped);
  EXPECT_GT(part.members.at(0).train_steps.size(), 0u);
  EXPECT_LT(part.members.at(0).train_steps.size(), whole.members.at(0).train_steps.size());
  for (const int size : {2, 1, 3}) {
    ArrayJob rest = first;
    rest.array = "rest" + std::to_string(size);
    rest.members[0].resume = newest(part, 0);
    const Recorder resumed = led(rest, size);
    const Recorder::Member both = joined(part.members.at(0), resumed.members.at(0));
    if (size == 2) expect_equal(both, whole.members.at(0));
    ASSERT_EQ(both.train_steps.size(), whole.members.at(0).train_steps.size());
    for (std::size_t i = 0; i < both.train_steps.size(); ++i)
      expect_close(both.train_steps[i].loss, whole.members.at(0).train_steps[i].loss, 1e-2, "loss");
  }
}

TEST(GroupAdaptation, DrainsAndGoesOn) {
  const Workspace space;
  const ExperimentSpec spec = small_spec();
  const Fits fits = fit(space, spec, 1, "fit");
  const ArrayJob job = space.job(Stage::adapt, {{spec, 0, 0, {}, fits.last[0]}}, "trial");
  const Recorder whole = led(job, 2);
  Ranks ranks = run_ranks(job, 2, [](Recorder& recorder, int) { recorder.drain_after = 1; });
  const Recorder& part = ranks.recorders[0];
  ASSERT_EQ(part.members.at(0).outcome.status, TrialStatus::stopped);
  EXPECT_EQ(part.members.at(0).ttt_steps.size(), 2u);
  ArrayJob rest = job;
  rest.members[0].resume = newest(part, 0);
  expect_equal(joined(part.members.at(0), led(rest, 2).members.at(0)), whole.members.at(0));
}

TEST(Collective, FindsRanksThatHaveComeApart) {
  for (const bool apart : {false, true}) {
    LocalMeeting meeting;
    std::vector<std::future<bool>> ranks;
    for (int rank = 0; rank < 2; ++rank)
      ranks.push_back(std::async(std::launch::async, [&meeting, rank, apart] {
        const auto group = make_tcp_collective(std::make_unique<GroupLink>(JobGroup{rank, 2, "", true}, meeting));
        at::Tensor values = at::arange(10, at::kFloat);
        if (apart && rank == 1) std::swap(values.mutable_data_ptr<float>()[2], values.mutable_data_ptr<float>()[7]);
        try {
          expect_agreement(*group, {values, at::ones({3}, at::kDouble)});
          return true;
        } catch (const Error&) {
          return false;
        }
      }));
    EXPECT_TRUE(ranks[0].get());
    EXPECT_EQ(ranks[1].get(), !apart);
  }
}

// The sum has a gradient: that of all ranks' losses.
TEST(Collective, DifferentiatesSums) {
  LocalMeeting meeting;
  std::vector<std::future<void>> ranks;
  for (int rank = 0; rank < 3; ++rank)
    ranks.push_back(std::async(std::launch::async, [&meeting, rank] {
      const auto group = make_tcp_collective(std::make_unique<GroupLink>(JobGroup{rank, 3, "", true}, meeting));
      const at::Tensor x = at::full({2}, rank + 1.0, at::kDouble).requires_grad_(true);
      const at::Tensor total = summed(*group, x);
      EXPECT_EQ(total[0].item<double>(), 6);
      (total * total).sum().mul(rank).backward();  // d/dx of (0 + 1 + 2) total^2
      EXPECT_EQ(x.grad()[1].item<double>(), 3 * 2 * 6);
      const at::Tensor all = gathered(*group, at::full({2, 1}, rank, at::kLong), 1);
      EXPECT_TRUE(at::equal(all, at::tensor({0, 1, 2, 0, 1, 2}, at::kLong).view({2, 3})));
      group->leave();
    }));
  for (auto& rank : ranks) rank.get();
}

}  // namespace
}  // namespace tenfold::testing

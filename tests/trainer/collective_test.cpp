// When the ranks of a group begin what a watchdog watches, and how their gradients are summed in buckets.
#include "trainer/collective.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>

#include <atomic>
#include <future>
#include <limits>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/trainer/array_harness.h"
#include "tests/trainer/local_meeting.h"
#include "trainer/adapt_array.h"
#include "trainer/fit_array.h"
#include "trainer/gradient_buckets.h"
#include "trainer/silent_reporter.h"

namespace tenfold::testing {
namespace {

// Over TCP, and tells when it is watched and how many sums have begun.
class HeardCollective final : public Collective {
 public:
  HeardCollective(std::unique_ptr<GroupLink> link, std::function<void()> watched = {})
      : Collective(std::move(link)), watched_(std::move(watched)) {}
  void sum(const at::Tensor& tensor) override {
    const auto count = static_cast<std::size_t>(tensor.numel());
    if (tensor.scalar_type() == at::kFloat)
      Collective::sum(std::span(tensor.mutable_data_ptr<float>(), count));
    else
      Collective::sum(std::span(tensor.mutable_data_ptr<double>(), count));
  }
  void broadcast(const at::Tensor& tensor) override {
    link().broadcast(std::span(static_cast<std::byte*>(tensor.mutable_data_ptr()), tensor.nbytes()));
  }
  void begin_sum(const at::Tensor& tensor) override {
    ++begun;
    sum(tensor);
  }
  void finish_sums() override {}
  std::int64_t bucket_bytes() const override { return std::numeric_limits<std::int64_t>::max(); }
  void watch(bool on) override {
    if (on && watched_) watched_();
  }
  void progressed() override {}

  int begun = 0;

 private:
  std::function<void()> watched_;
};

void on_ranks(int size, const std::function<void(int rank, std::unique_ptr<GroupLink>)>& body) {
  LocalMeeting meeting;
  std::vector<std::future<void>> ranks;
  for (int rank = 0; rank < size; ++rank)
    ranks.push_back(std::async(std::launch::async, [&, rank] {
      body(rank, std::make_unique<GroupLink>(JobGroup{rank, size, "localhost", true}, meeting));
    }));
  for (auto& rank : ranks) rank.get();
}

// ---- when work begins

constexpr std::chrono::milliseconds kLate{400};

// Writes checkpoints slowly.
class SlowDisk final : public SilentReporter {
 public:
  void checkpoint(const CheckpointNotice&) override {
    writing = true;
    std::this_thread::sleep_for(kLate / 4);
    writing = false;
    ++written;
  }
  std::atomic<bool> writing{false};
  std::atomic<int> written{0};
};

std::vector<ArrayMember> members_of(const ArrayJob& job, FoldStore& folds) {
  std::vector<ArrayMember> members;
  for (const JobMember& member : job.members) {
    const ExperimentSpec spec =
        spec_from_json(nlohmann::json::parse(job.configurations.at(static_cast<std::size_t>(member.configuration))));
    members.push_back({spec, folds.fold(spec, member.repeat, member.fold, job.fingerprint, job.cache_folder), member});
  }
  return members;
}

// Whoever is last to have its data, and however long the leader takes over a checkpoint: a rank whose work is watched
// waits for none of them.
void expect_watched_together(const ArrayJob& job) {
  constexpr int kRanks = 3;
  for (const int late : {0, 2}) {
    std::atomic<int> ready{0}, watched{0};
    SlowDisk disk;
    on_ranks(kRanks, [&](int rank, std::unique_ptr<GroupLink> link) {
      const auto check = [&] {
        EXPECT_EQ(ready, kRanks) << "rank " << rank;
        EXPECT_FALSE(disk.writing) << "rank " << rank;
        ++watched;
      };
      HeardCollective group(std::move(link), check);
      const std::unique_ptr<Compute> compute = make_compute("cpu");
      SilentReporter silent;
      const ArrayContext context{*compute, rank == 0 ? static_cast<Reporter&>(disk) : silent, job, &group};
      FoldStore folds(compute->device());
      std::vector<ArrayMember> members = members_of(job, folds);
      if (rank == late) std::this_thread::sleep_for(kLate);
      ++ready;
      if (job.stage == Stage::fit)
        run_fit_array(context, std::move(members));
      else
        run_adapt_array(context, std::move(members));
      group.leave();
    });
    EXPECT_GE(watched, 2 * kRanks);
    EXPECT_GE(disk.written, 2);
  }
}

TEST(WatchedWork, BeginsInAFitWhenAllRanksAreThere) {
  const Workspace space;
  ExperimentSpec spec = small_spec();
  spec.checkpoint.every_steps = 4;
  expect_watched_together(space.job(Stage::fit, {{spec, 0, 0, {}, {}}}, "fit"));
}

// One that goes on: nothing is evaluated, so nothing summed, before the passes.
TEST(WatchedWork, BeginsInAnAdaptationWhenAllRanksAreThere) {
  const Workspace space;
  ExperimentSpec spec = small_spec();
  spec.ttt.steps = 6;
  spec.checkpoint.every_steps = 1;
  const Fits fits = fit(space, spec, 1, "fit");
  const Recorder part = run(space, Stage::adapt, {{spec, 0, 0, {}, fits.last[0]}}, "trial", 1);
  ASSERT_EQ(part.members.at(0).outcome.status, TrialStatus::stopped);
  expect_watched_together(space.job(Stage::adapt, {{spec, 0, 0, newest(part, 0), fits.last[0]}}, "rest"));
}

// ---- buckets

// Of 2 members: small ones, one of exactly 1 KiB, one larger.
const std::vector<std::int64_t> kSizes = {3, 700, 20, 1, 128, 5, 129, 64};
constexpr std::size_t kZero = 3;  // its gradient is 0 everywhere

std::vector<at::Tensor> parameters_of(int round) {
  std::vector<at::Tensor> parameters;
  for (std::size_t i = 0; i < kSizes.size(); ++i)
    parameters.push_back((at::arange(2 * kSizes[i], at::kFloat).view({2, kSizes[i]}) * 0.37 + double(i) + round).sin());
  return parameters;
}

// (2) of the members; parameters come in another order than theirs, and a frozen one is among them.
at::Tensor output_of(const std::vector<at::Tensor>& parameters, int rank) {
  at::Tensor sum = at::zeros({2});
  const at::Tensor frozen = at::full({2, 1}, 1.25);
  for (const std::size_t i : {4, 1, 7, 0, 3, 6, 2, 5}) {
    const at::Tensor data = (at::arange(kSizes[i], at::kFloat) * 0.11 + rank + double(i)).cos();
    const at::Tensor term = (parameters[i] * data).tanh() * frozen * (i == kZero ? 0.0 : 1.0);
    sum = (sum + term.sum(1)) * 0.9;
  }
  return sum;
}

at::Tensor along() { return at::tensor({0.7f, -1.3f}); }

// What every rank has of its own, added up in the order of ranks.
std::vector<at::Tensor> expected_gradients(int round, int ranks) {
  std::vector<at::Tensor> totals;
  for (int rank = 0; rank < ranks; ++rank) {
    std::vector<at::Tensor> parameters = parameters_of(round);
    for (at::Tensor& parameter : parameters) parameter.requires_grad_(true);
    const auto own = torch::autograd::grad({output_of(parameters, rank)}, parameters, {along()});
    for (std::size_t i = 0; i < own.size(); ++i)
      if (rank == 0)
        totals.push_back(own[i]);
      else
        totals[i] = totals[i] + own[i];
  }
  return totals;
}

TEST(GradientBuckets, HoldTheSameBitsWhateverTheirSize) {
  struct Size {
    std::int64_t bytes;
    std::size_t buckets;
  };
  // From the last: 64 129 5, 128 1 20, 700, 3 in buckets of 2 KiB; in those of 1 KiB 129 has one of its own, too.
  for (const Size size : {Size{0, 1}, Size{1 << 20, 1}, Size{2048, 4}, Size{1024, 7}, Size{1, kSizes.size()}})
    for (const int ranks : {1, 2, 4})
      on_ranks(ranks, [&](int rank, std::unique_ptr<GroupLink> link) {
        HeardCollective group(std::move(link));
        std::vector<at::Tensor> parameters = parameters_of(0);
        for (at::Tensor& parameter : parameters) parameter.requires_grad_(true);
        int begun_before_the_last = -1;
        GradientBuckets buckets(group, parameters, 2, size.bytes);
        EXPECT_EQ(buckets.count(), size.buckets) << size.bytes << " bytes";
        // The pass ends with what the output took first.
        parameters[4].register_hook([&](const at::Tensor&) { begun_before_the_last = group.begun; });
        for (int round = 0; round < 3; ++round) {
          group.begun = 0;
          {
            const at::NoGradGuard no_grad;
            const std::vector<at::Tensor> values = parameters_of(round);
            for (std::size_t i = 0; i < values.size(); ++i) parameters[i].copy_(values[i]);
          }
          const at::Tensor extra = at::tensor({0.1f + static_cast<float>(rank + round), 3.0f});
          const auto sums = buckets.sum(output_of(parameters, rank), along(), extra);
          const auto expected = expected_gradients(round, ranks);
          ASSERT_EQ(sums.size(), expected.size());
          for (std::size_t i = 0; i < sums.size(); ++i)
            EXPECT_TRUE(at::equal(sums[i], expected[i])) << "parameter " << i << ", buckets of " << size.bytes;
          EXPECT_TRUE(at::equal(sums[kZero], at::zeros({2, 1})));
          at::Tensor total = at::tensor({0.1f + static_cast<float>(round), 3.0f});
          for (int other = 1; other < ranks; ++other)
            total = total + at::tensor({0.1f + static_cast<float>(other + round), 3.0f});
          EXPECT_TRUE(at::equal(buckets.summed_extra(), total)) << "buckets of " << size.bytes;
          EXPECT_EQ(group.begun, static_cast<int>(size.buckets));
          if (size.buckets > 1) {
            EXPECT_GT(begun_before_the_last, 0) << "sums begin while the pass goes on";
          }
        }
        group.leave();
      });
}

// A trained parameter that the output does not depend on is the model's fault: said on all ranks, and none waits.
TEST(GradientBuckets, RefuseAParameterWithoutGradient) {
  for (const std::int64_t bytes : {0, 1})
    on_ranks(2, [&](int, std::unique_ptr<GroupLink> link) {
      HeardCollective group(std::move(link));
      std::vector<at::Tensor> parameters = {at::ones({4}), at::ones({3}), at::ones({2})};
      for (at::Tensor& parameter : parameters) parameter.requires_grad_(true);
      GradientBuckets buckets(group, parameters, 0, bytes);
      const at::Tensor output = parameters[0].sum() + parameters[2].sum();
      EXPECT_THROW(buckets.sum(output, at::ones({})), std::exception);
    });
}

}  // namespace
}  // namespace tenfold::testing

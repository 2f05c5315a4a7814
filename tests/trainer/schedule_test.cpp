// Rates, guards and summaries of passes: what the host decides between steps.
#include "trainer/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "trainer/adaptation_control.h"
#include "trainer/pass_summary.h"

namespace tenfold::testing {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

ScheduleSpec schedule(const std::string& kind) {
  ScheduleSpec spec;
  spec.kind = kind;
  return spec;
}

TEST(Schedule, FollowsItsFormulas) {
  EXPECT_DOUBLE_EQ(scheduled_lr(schedule("constant"), 0.3, 7, 10), 0.3);
  ScheduleSpec cosine = schedule("cosine");
  cosine.min_lr = 0.02;
  EXPECT_DOUBLE_EQ(scheduled_lr(cosine, 0.1, 0, 100), 0.1);
  EXPECT_DOUBLE_EQ(scheduled_lr(cosine, 0.1, 50, 100), 0.06);
  EXPECT_NEAR(scheduled_lr(cosine, 0.1, 25, 100), 0.02 + 0.08 * (1 + std::sqrt(0.5)) / 2, 1e-15);
  EXPECT_DOUBLE_EQ(scheduled_lr(cosine, 0.1, 100, 100), 0.02);
  EXPECT_DOUBLE_EQ(scheduled_lr(cosine, 0.1, 150, 100), 0.02);  // an array that goes on without this member
  ScheduleSpec step = schedule("step");
  step.step_size = 10;
  step.factor = 0.5;
  step.min_lr = 0.03;
  EXPECT_DOUBLE_EQ(scheduled_lr(step, 0.1, 9, 100), 0.1);
  EXPECT_DOUBLE_EQ(scheduled_lr(step, 0.1, 10, 100), 0.05);
  EXPECT_DOUBLE_EQ(scheduled_lr(step, 0.1, 20, 100), 0.03);
}

TEST(Schedule, WarmsUpLinearlyBelowTheMinimumAndCountsAfterwards) {
  ScheduleSpec spec = schedule("cosine");
  spec.warmup_steps = 4;
  spec.min_lr = 0.05;
  EXPECT_DOUBLE_EQ(scheduled_lr(spec, 0.1, 0, 104), 0.025);
  EXPECT_DOUBLE_EQ(scheduled_lr(spec, 0.1, 3, 104), 0.1);
  EXPECT_DOUBLE_EQ(scheduled_lr(spec, 0.1, 4, 104), 0.1);
  EXPECT_DOUBLE_EQ(scheduled_lr(spec, 0.1, 54, 104), 0.075);
  spec.warmup_steps = 10;  // longer than everything
  EXPECT_DOUBLE_EQ(scheduled_lr(spec, 0.1, 4, 5), 0.05);
}

// torch.optim.lr_scheduler.ReduceLROnPlateau(mode min, factor 0.5, patience 2, threshold 0.1 rel, min_lr 0.2) from 1.0
TEST(Plateau, ReducesAsTorchDoes) {
  ScheduleSpec spec = schedule("plateau");
  spec.factor = 0.5;
  spec.patience = 2;
  spec.threshold = 0.1;
  spec.min_lr = 0.2;
  const double values[] = {10, 9.5, 9.1, 9.0, 8.9, 8.2, 8.1, 8.0, 8.0, 8.0, 8.0, 8.0, 1.0, 2.0, kNan, 2.0};
  const double rates[] = {1, 1, 1, .5, .5, .5, .5, .5, .5, .5, .25, .25, .25, .25, .25, .2};
  // 9.1 and 9.0 are not below 10 * 0.9; 8.9 is; 8.2 and 8.1 are not below 8.01; 8.0 is; then three times bad.
  PlateauState state;
  for (std::size_t i = 0; i < std::size(values); ++i) {
    state.look(spec, values[i]);
    EXPECT_DOUBLE_EQ(state.lr(spec, 1.0), rates[i]) << i;
  }
}

TEST(Plateau, DoesNotTakeANanForTheBestOrAWorseNegativeForBetter) {
  ScheduleSpec spec = schedule("plateau");
  spec.patience = 1;
  PlateauState state;
  state.look(spec, kNan);
  state.look(spec, -1.0);
  EXPECT_EQ(state.best, -1.0);
  EXPECT_EQ(state.bad, 0);
  state.look(spec, -0.99995);
  EXPECT_EQ(state.bad, 1);
  state.look(spec, -1.01);
  EXPECT_EQ(state.best, -1.01);
}

TttStepRow pass(std::int64_t step, double total, double h = 1) {
  TttStepRow row{};
  row.step = step;
  row.total = total;
  row.class_entropy = h;
  return row;
}

TEST(AdaptationControl, StopsWhereClassesCollapse) {
  TttSpec spec;
  spec.stop.collapse_below = 0.8;
  AdaptationControl control;
  EXPECT_EQ(control.look(spec, pass(0, 1, 0.9)), "");
  EXPECT_EQ(control.look(spec, pass(1, 1, 0.8)), "");
  EXPECT_EQ(control.finished_at, -1);
  EXPECT_NE(control.look(spec, pass(2, 1, 0.79)).find("0.790 fell below 0.800 at pass 2"), std::string::npos);
  EXPECT_EQ(control.finished_at, 2);
}

TEST(AdaptationControl, LosesPatienceOnlyAfterTheFirstPasses) {
  TttSpec spec;
  spec.stop.patience = 3;
  spec.stop.after = 6;
  AdaptationControl control;
  EXPECT_EQ(control.look(spec, pass(0, 1.0)), "");
  for (std::int64_t step = 1; step < 6; ++step)  // a gain below min_delta is none
    EXPECT_EQ(control.look(spec, pass(step, 1.0 - 9e-6)), "") << step;
  EXPECT_NE(control.look(spec, pass(6, 1.0)), "");
  EXPECT_EQ(control.finished_at, 6);
  AdaptationControl gaining;
  for (std::int64_t step = 0; step < 20; ++step)
    EXPECT_EQ(gaining.look(spec, pass(step, 1.0 - 2e-5 * static_cast<double>(step))), "") << step;
}

TEST(AdaptationControl, LowersItsRateOnAPlateauOfTheTotal) {
  TttSpec spec;
  spec.lr = 0.1;
  spec.steps = 10;
  spec.schedule = schedule("plateau");
  spec.schedule->patience = 1;
  spec.schedule->factor = 0.5;
  AdaptationControl control;
  for (std::int64_t step = 0; step < 3; ++step) {
    EXPECT_DOUBLE_EQ(control.lr(spec, step), 0.1);
    control.look(spec, pass(step, 1.0));
  }
  EXPECT_DOUBLE_EQ(control.lr(spec, 3), 0.05);
}

TEST(PassSummary, WeighsBatchesByTheirSamples) {
  const float first[] = {1.0f, 0.8f, 0.4f, 0.15f, 3.0f}, second[] = {4.0f, 2.0f, 0.1f, 0.3f, 5.0f};
  const float p_first[] = {0.5f, 0.5f, 0.0f}, p_second[] = {0.0f, 0.0f, 1.0f};
  const std::int64_t predicted_first[] = {0, 0, 1}, predicted_second[] = {2};
  const BatchMeasure batches[] = {{3, first, p_first, predicted_first}, {1, second, p_second, predicted_second}};
  const TttStepRow row = summarise_pass(batches, 3);
  EXPECT_NEAR(row.total, 1.75, 1e-6);
  EXPECT_NEAR(row.entropy, 1.1, 1e-6);
  EXPECT_NEAR(row.diversity, 0.325, 1e-6);
  EXPECT_NEAR(row.diversity_weight, 0.1875, 1e-6);
  EXPECT_NEAR(row.grad_norm, 4.0, 1e-6);  // of the updates, each counting once
  const double p[] = {0.375, 0.375, 0.25};
  double entropy = 0;
  for (const double value : p) entropy -= value * std::log(value);
  EXPECT_NEAR(row.class_entropy, entropy / std::log(3.0), 1e-6);
  EXPECT_EQ(row.classes_predicted, 3);
  EXPECT_DOUBLE_EQ(row.max_class_share, 0.5);
}

}  // namespace
}  // namespace tenfold::testing

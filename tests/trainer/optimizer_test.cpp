// Updates and dropout masks of the CPU against plain re-implementations in double and by Philox.
#include "trainer/optimizer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "experiments/error.h"
#include "tests/trainer/tensors.h"

namespace tenfold::testing {
namespace {

// One parameter tensor pair of one member, updated as trainer/optimizer.h says, in double.
struct Reference {
  OptimizerSpec spec;
  double clip = 0;
  std::vector<double> p, m, v;
  int applied = 0;

  double update(const std::vector<double>& raw, double lr) {
    double squares = 0;
    for (const double g : raw) squares += g * g;
    const double norm = std::sqrt(squares), scale = clip > 0 ? std::min(1.0, clip / (norm + 1e-6)) : 1.0;
    ++applied;
    m.resize(p.size());
    v.resize(p.size());
    for (std::size_t i = 0; i < p.size(); ++i) {
      double g = raw[i] * scale;
      if (spec.kind == "adamw")
        p[i] -= lr * spec.weight_decay * p[i];
      else
        g += spec.weight_decay * p[i];
      if (spec.kind == "sgd") {
        m[i] = spec.momentum * m[i] + g;
        p[i] -= lr * (spec.nesterov ? g + spec.momentum * m[i] : m[i]);
        continue;
      }
      m[i] = spec.beta1 * m[i] + (1 - spec.beta1) * g;
      v[i] = spec.beta2 * v[i] + (1 - spec.beta2) * g * g;
      const double m_hat = m[i] / (1 - std::pow(spec.beta1, applied));
      const double v_hat = v[i] / (1 - std::pow(spec.beta2, applied));
      p[i] -= lr * m_hat / (std::sqrt(v_hat) + spec.eps);
    }
    return norm;
  }
};

std::vector<double> doubles(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor flat = at::cat({a.flatten(), b.flatten()}).to(at::kDouble).contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

class Optimizer : public ::testing::TestWithParam<const char*> {};

TEST_P(Optimizer, FollowsItsFormulaWithRatesAndRulesOfEachMember) {
  const std::string name = GetParam();
  const auto compute = make_cpu_compute();
  constexpr std::int64_t kMembers = 3, kSteps = 8;
  std::vector<Reference> references(kMembers);
  std::vector<UpdateRule> rules;
  at::Tensor a = normal({kMembers, 5, 7}, 1), b = normal({kMembers, 19}, 2);
  for (std::size_t k = 0; k < references.size(); ++k) {
    Reference& reference = references[k];
    reference.spec.kind = name == "nesterov" ? "sgd" : name;
    reference.spec.nesterov = name == "nesterov";
    reference.spec.weight_decay = 0.02 * static_cast<double>(k);
    reference.spec.momentum = 0.9 - 0.3 * static_cast<double>(k);
    reference.spec.beta1 = 0.9 - 0.1 * static_cast<double>(k);
    reference.clip = k == 1 ? 2.0 : 0.0;  // norms are about 7
    reference.p = doubles(a[static_cast<std::int64_t>(k)], b[static_cast<std::int64_t>(k)]);
    rules.push_back(update_rule(reference.spec, reference.clip));
  }
  StackedOptimizer optimizer(*compute, references[0].spec.kind != "sgd", rules, {a, b});
  for (std::int64_t step = 0; step < kSteps; ++step) {
    const at::Tensor ga = normal({kMembers, 5, 7}, 10 + static_cast<std::uint64_t>(step)),
                     gb = normal({kMembers, 19}, 30 + static_cast<std::uint64_t>(step));
    at::Tensor lr = at::empty({kMembers}), active = at::ones({kMembers});
    const bool third_rests = step == 3;  // and goes on afterwards as if the step had not been
    if (third_rests) active[2] = 0;
    for (std::int64_t k = 0; k < kMembers; ++k)
      lr[k] = 0.01 * static_cast<double>(k + 1) / static_cast<double>(step + 1);
    const at::Tensor before = a[2].clone();
    const at::Tensor norm = optimizer.update({ga, gb}, lr, active);
    EXPECT_EQ(third_rests, at::equal(before, a[2]));
    for (std::int64_t k = 0; k < kMembers; ++k) {
      if (third_rests && k == 2) continue;
      Reference& reference = references[static_cast<std::size_t>(k)];
      const double expected = reference.update(doubles(ga[k], gb[k]), lr[k].item<double>());
      EXPECT_NEAR(norm[k].item<double>(), expected, 1e-5 * expected);
      const std::vector<double> got = doubles(a[k], b[k]);
      for (std::size_t i = 0; i < got.size(); ++i)
        ASSERT_NEAR(got[i], reference.p[i], 3e-6) << name << " step " << step << " member " << k << " value " << i;
    }
  }
  EXPECT_EQ(optimizer.applied()[0].item<float>(), 8);
  EXPECT_EQ(optimizer.applied()[2].item<float>(), 7);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Optimizer, ::testing::Values("sgd", "nesterov", "adam", "adamw"));

TEST(Optimizer, KeepsANanToItsMemberAndRestsWithEveryBit) {
  const auto compute = make_cpu_compute();
  at::Tensor p = normal({3, 33}, 1);
  const at::Tensor before = p.clone();
  StackedOptimizer optimizer(*compute, true, std::vector<UpdateRule>(3, update_rule(OptimizerSpec{}, 1.0)), {p});
  at::Tensor g = normal({3, 33}, 2);
  g[0].fill_(std::numeric_limits<float>::quiet_NaN());
  g[1].fill_(std::numeric_limits<float>::infinity());
  const at::Tensor norm = optimizer.update({g}, at::full({3}, 0.1), at::tensor({1.0f, 0.0f, 1.0f}));
  EXPECT_TRUE(std::isnan(norm[0].item<float>()));
  EXPECT_TRUE(std::isinf(norm[1].item<float>()));
  EXPECT_TRUE(at::isnan(p[0]).all().item<bool>());
  EXPECT_TRUE(at::equal(p[1], before[1]));
  EXPECT_EQ(optimizer.moment1()[0][1].abs().max().item<float>(), 0.0f);
  EXPECT_TRUE(at::isfinite(p[2]).all().item<bool>());
}

// Groups of parameters with rates of their own.
constexpr std::int64_t kGroupMembers = 2;

struct GroupedRun {
  at::Tensor a, b, c;  // ttt, ttt, gate
  at::Tensor grad_norms, update_norms;
};

GroupedRun run_grouped(const std::string& kind, double clip, const OptimizerGroups& groups, const at::Tensor& active) {
  const auto compute = make_cpu_compute();
  OptimizerSpec spec;
  spec.kind = kind;
  GroupedRun run{
      normal({kGroupMembers, 6, 5}, 41), normal({kGroupMembers, 33}, 42), normal({kGroupMembers, 4}, 43), {}, {}};
  StackedOptimizer optimizer(*compute, kind != "sgd", std::vector<UpdateRule>(kGroupMembers, update_rule(spec, clip)),
                             {run.a, run.b, run.c}, groups);
  for (std::uint64_t step = 0; step < 4; ++step) {
    optimizer.update({normal({kGroupMembers, 6, 5}, 50 + step), normal({kGroupMembers, 33}, 60 + step),
                      normal({kGroupMembers, 4}, 70 + step)},
                     at::tensor({0.01f, 0.02f}), active);
  }
  run.grad_norms = optimizer.group_grad_norms();
  run.update_norms = optimizer.group_update_norms();
  return run;
}

const std::vector<ParameterGroup> kThreeGroups = {ParameterGroup::ttt, ParameterGroup::ttt, ParameterGroup::gate};

TEST(GroupRates, LeaveEveryBitWhereTheyAreOne) {
  for (const char* kind : {"sgd", "adamw"}) {
    const GroupedRun plain = run_grouped(kind, 1.0, {}, at::ones({kGroupMembers}));
    const GroupFactors ones = {1, 1, 1, 1};
    const GroupedRun grouped =
        run_grouped(kind, 1.0, {kThreeGroups, {kGroupMembers, ones}, true}, at::ones({kGroupMembers}));
    EXPECT_TRUE(at::equal(plain.a, grouped.a)) << kind;
    EXPECT_TRUE(at::equal(plain.b, grouped.b)) << kind;
    EXPECT_TRUE(at::equal(plain.c, grouped.c)) << kind;
    EXPECT_FALSE(plain.grad_norms.defined());
  }
}

TEST(GroupRates, AreThoseOfTheirGroupAndMember) {
  for (const char* kind : {"sgd", "adamw"}) {
    // base, ttt, gate, lora of two members whose rates are 0.01 and 0.02.
    const GroupFactors first = {1, 2, 0.5, 1}, second = {1, 0, 3, 1};
    const GroupedRun got = run_grouped(kind, 1.0, {kThreeGroups, {first, second}, false}, at::ones({kGroupMembers}));
    OptimizerSpec spec;
    spec.kind = kind;
    for (std::int64_t k = 0; k < kGroupMembers; ++k) {
      const GroupFactors& factors = k == 0 ? first : second;
      std::vector<double> begin = doubles(normal({kGroupMembers, 6, 5}, 41)[k], normal({kGroupMembers, 33}, 42)[k]);
      const std::vector<double> gate = doubles(normal({kGroupMembers, 4}, 43)[k], at::empty({0}));
      Reference ttt{spec, 0, begin, {}, {}, 0}, gates{spec, 0, gate, {}, {}, 0};
      for (std::uint64_t step = 0; step < 4; ++step) {
        const auto g = doubles(normal({kGroupMembers, 6, 5}, 50 + step)[k], normal({kGroupMembers, 33}, 60 + step)[k]);
        const auto h = doubles(normal({kGroupMembers, 4}, 70 + step)[k], at::empty({0}));
        // One clip over both groups.
        double squares = 0;
        for (const auto* list : {&g, &h})
          for (const double value : *list) squares += value * value;
        const double scale = std::min(1.0, 1 / (std::sqrt(squares) + 1e-6)), lr = k == 0 ? 0.01 : 0.02;
        const auto scaled = [&](std::vector<double> list) {
          for (double& value : list) value *= scale;
          return list;
        };
        ttt.update(scaled(g), lr * factors[1]);
        gates.update(scaled(h), lr * factors[2]);
      }
      const auto values = doubles(got.a[k], got.b[k]), gate_values = doubles(got.c[k], at::empty({0}));
      for (std::size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(values[i], ttt.p[i], 3e-6) << kind << ' ' << k;
      for (std::size_t i = 0; i < gate_values.size(); ++i)
        EXPECT_NEAR(gate_values[i], gates.p[i], 3e-6) << kind << ' ' << k;
    }
    EXPECT_TRUE(at::equal(got.a[1], normal({kGroupMembers, 6, 5}, 41)[1])) << "a rate of 0 keeps every bit";
  }
}

TEST(GroupRates, NormsAreOfGradientsAndOfWhatChanged) {
  const auto compute = make_cpu_compute();
  const at::Tensor a = normal({3, 40}, 1), b = normal({3, 7}, 2), c = normal({3, 9}, 3);
  const at::Tensor a0 = a.clone(), b0 = b.clone(), c0 = c.clone();
  StackedOptimizer optimizer(*compute, true, std::vector<UpdateRule>(3, update_rule(OptimizerSpec{}, 0.5)), {a, b, c},
                             {{ParameterGroup::base, ParameterGroup::lora, ParameterGroup::base}, {}, true});
  const at::Tensor ga = normal({3, 40}, 4), gb = normal({3, 7}, 5), gc = normal({3, 9}, 6);
  const at::Tensor norm =
      optimizer.update({ga, gb, gc}, at::full({3}, 0.1), at::tensor({1.0f, 0.0f, 1.0f})).to(at::kDouble);
  const auto norm_of = [](const at::Tensor& x, const at::Tensor& y) {
    return at::cat({x.flatten(), y.flatten()}).to(at::kDouble).norm().item<double>();
  };
  for (std::int64_t k = 0; k < 3; ++k) {
    const at::Tensor grads = optimizer.group_grad_norms()[k], updates = optimizer.group_update_norms()[k];
    EXPECT_NEAR(grads[0].item<double>(), norm_of(ga[k], gc[k]), 1e-5);
    EXPECT_NEAR(grads[3].item<double>(), norm_of(gb[k], at::zeros({1})), 1e-5);
    EXPECT_EQ(grads[1].item<float>(), 0);
    EXPECT_NEAR(grads.to(at::kDouble).norm().item<double>(), norm[k].item<double>(), 1e-5);
    EXPECT_NEAR(updates[0].item<double>(), norm_of(a[k] - a0[k], c[k] - c0[k]), 1e-6);
    EXPECT_NEAR(updates[3].item<double>(), norm_of(b[k] - b0[k], at::zeros({1})), 1e-6);
    EXPECT_EQ(updates[0].item<float>() > 0, k != 1);
  }
}

TEST(GroupRates, AreRelativeToTheOptimizersRate) {
  TrainSpec train;
  train.optimizer.lr = 1e-3;
  EXPECT_EQ(group_factors(train), (GroupFactors{1, 1, 1, 1}));
  train.group_lr.ttt = 5e-3;
  train.group_lr.base = 0;
  EXPECT_EQ(group_factors(train), (GroupFactors{0, 5, 1, 1}));
  train.optimizer.lr = 0;
  EXPECT_THROW(group_factors(train), Error);
  train.group_lr = {};
  EXPECT_EQ(group_factors(train), (GroupFactors{1, 1, 1, 1}));
}

// Masks are Philox at (position in the epoch's order, unit), whatever batch asks for it.
TEST(Dropout, IsAFunctionOfPositionAndUnit) {
  const auto compute = make_cpu_compute();
  for (const std::int64_t units : {7, 64, 128, 130}) {
    DropoutTables tables;
    tables.keys = {{1, 2}, {3, 4}, {1, 2}};
    tables.probability = {0.3f, 0.5f, 0.3f};
    tables.epoch = at::tensor({0, 0, 0, 5, 6, 5}, at::kLong).view({2, 3});
    tables.position = at::tensor({0, 0, 0, 64, 32, 64}, at::kLong).view({2, 3});
    StepCounter counter;
    counter.host = 1;
    at::Tensor mask = at::empty({3, 32, units});
    compute->dropout_mask(mask, tables, counter, 9);
    const std::uint64_t blocks = static_cast<std::uint64_t>(units + 3) / 4;
    for (std::int64_t k = 0; k < 3; ++k) {
      const auto member = static_cast<std::size_t>(k);
      const std::uint64_t position = k == 1 ? 32 : 64;
      const std::uint32_t epoch = k == 1 ? 6 : 5;
      for (std::int64_t row = 0; row < 32; ++row)
        for (std::int64_t unit = 0; unit < units; ++unit) {
          const std::uint64_t index =
              (position + static_cast<std::uint64_t>(row)) * blocks + static_cast<std::uint64_t>(unit / 4);
          const std::uint32_t word =
              philox({static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32), epoch, 9},
                     tables.keys[member])[static_cast<std::size_t>(unit % 4)];
          const float p = tables.probability[member];
          const float expected = static_cast<double>(word >> 8) >= std::round(p * 0x1p24) ? 1.0f / (1.0f - p) : 0.0f;
          ASSERT_EQ(mask[k][row][unit].item<float>(), expected) << units << ' ' << k << ' ' << row << ' ' << unit;
        }
    }
    // The second half of that batch as a batch of 16 of its own.
    tables.position = tables.position + 16;
    at::Tensor half = at::empty({3, 16, units});
    compute->dropout_mask(half, tables, counter, 9);
    EXPECT_TRUE(at::equal(half, mask.narrow(1, 16, 16)));
  }
}

TEST(MakeCompute, NamesWhatItDoesNotKnow) {
  EXPECT_EQ(make_compute("cpu")->description(), "cpu");
  for (const char* device : {"", "gpu", "cuda:", "cuda:x", "cuda:1x"}) {
    try {
      make_compute(device);
      ADD_FAILURE() << device;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::config) << device;
    }
  }
}

}  // namespace
}  // namespace tenfold::testing

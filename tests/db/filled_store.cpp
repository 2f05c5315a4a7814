#include "tests/db/filled_store.h"

namespace tenfold {
namespace {

// What a model with one TTT layer records, by its last update: losses fall by use of the context.
void add_inner_rows(Store& store, RowId fit) {
  std::vector<InnerLossRow> inner;
  std::vector<PositionLossRow> positions;
  for (std::int64_t position = 0; position < 40; ++position) {
    const double l0 = 1.0, lprev = l0 - 0.01 * static_cast<double>(position);
    inner.push_back({12, position, l0, lprev, lprev - 0.05, 1, Phase::validation, {}});
    positions.push_back({12, position, 2.0 - 0.01 * static_cast<double>(position), 64, 0, Phase::validation, {}});
  }
  store.add_rows(UnitKind::fit, fit, inner);
  store.add_rows(UnitKind::fit, fit, positions);
  store.add_rows(UnitKind::fit, fit, std::vector<GateRow>{{0, 0.1, 0.1, 0.1, 1, 0}, {12, 0.2, -0.1, 0.5, 1, 0}});
  for (std::int64_t step = 1; step <= 12; ++step)
    store.add_rows(fit,
                   std::vector<GroupStepRow>{{step, 1.0, 0.01, static_cast<std::int32_t>(ParameterGroup::base), 0},
                                             {step, 0.5, 0.02, static_cast<std::int32_t>(ParameterGroup::ttt), 0}});
}

}  // namespace

void fill_store(const std::filesystem::path& db, const std::string& name, std::size_t unfinished) {
  const SmallExperiment small("ttt.batch_size: [4, 8]", name);
  Store store = Store::open(db);
  const RegisteredPlan plan = store.register_plan(small.experiment, small.plan);
  store.begin();
  const auto begin_attempt = [&](UnitKind kind, RowId unit, std::int32_t number) {
    return store.begin_attempt({kind, unit, number, 1, "host", 42, "cpu", 0, "run.log", -1});
  };
  for (const UnitState& fit : plan.fits) {
    if (fit.status == TrialStatus::done) continue;
    const RowId attempt = begin_attempt(UnitKind::fit, fit.id, 1);
    for (std::int64_t step = 1; step <= 12; ++step)
      store.add_rows(fit.id, std::vector{train_row(step, 1.0 / static_cast<double>(step))});
    add_inner_rows(store, fit.id);
    store.finish_attempt({attempt, TrialStatus::done, TrialStatus::done, "", 4.0, 1 << 20});
  }
  for (std::size_t i = 0; i + unfinished < plan.trials.size(); ++i) {
    const RowId trial = plan.trials[i].id;
    const double c = small.plan.trials[i].configuration, f = small.plan.split(small.plan.trials[i]).fold;
    if (i == 0) {
      const RowId failed = begin_attempt(UnitKind::trial, trial, 1);
      store.finish_attempt(
          {failed, TrialStatus::failed, TrialStatus::pending, "the trainer ended by signal 9", 0.5, 0});
    }
    const RowId attempt = begin_attempt(UnitKind::trial, trial, 2);
    std::vector<TttStepRow> rows;
    for (int s = 0; s <= 3; ++s) {
      rows.push_back(ttt_row(s, 1.0 + 0.1 * f - 0.2 * s - 0.05 * c * s, 0.4 - 0.05 * s));
      rows.back().class_entropy = 1 - rows.back().diversity + 0.01;
    }
    store.add_rows(trial, rows);
    const double before = 0.60 + 0.02 * f, after = 0.70 + 0.01 * f + 0.03 * c * f - (i == 4 ? 0.2 : 0);
    store.add_rows(UnitKind::trial, trial,
                   std::vector{evaluation_row(Phase::before, 0, "accuracy", before),
                               evaluation_row(Phase::before, 0, "nll", 1 - before),
                               evaluation_row(Phase::after, 3, "accuracy", after),
                               evaluation_row(Phase::after, 3, "nll", 1 - after)});
    store.finish_attempt({attempt, TrialStatus::done, TrialStatus::done, "", 2.0, 1 << 20});
  }
  store.commit();
}

}  // namespace tenfold

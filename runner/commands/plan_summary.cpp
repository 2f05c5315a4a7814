#include "runner/commands/plan_summary.h"

#include <algorithm>
#include <map>
#include <utility>

#include "db/file_system.h"
#include "runner/commands/plan_describe.h"
#include "runner/commands/plan_store.h"
#include "runner/member_cost.h"
#include "runner/schedule_cost.h"
#include "runner/scheduler.h"
#include "trainer/model_layout.h"

namespace tenfold {
namespace {

// Measured: what a trainer holds before its first array.
constexpr std::int64_t kCpuTrainerBytes = std::int64_t{115} << 20;
constexpr std::int64_t kGpuTrainerBytes = std::int64_t{470} << 20;

void widen(Range& range, std::int64_t value, bool first) {
  range.least = first ? value : std::min(range.least, value);
  range.most = first ? value : std::max(range.most, value);
}

class Summariser {
 public:
  Summariser(const PreparedExperiment& prepared, const std::filesystem::path& db, int slots, bool gpu,
             const Shard& shard)
      : prepared_(prepared), db_(db), gpu_(gpu), shard_(shard) {
    summary_.name = prepared.experiment.name();
    summary_.file = prepared.experiment.file();
    summary_.db = db.string();
    summary_.device = gpu ? "cuda" : "cpu";
    summary_.slots = slots;
    summary_.fits = static_cast<std::int64_t>(prepared.plan.fits.size());
    summary_.trials = static_cast<std::int64_t>(prepared.plan.trials.size());
  }

  PlanSummary make() {
    for (std::size_t c = 0; c < prepared_.experiment.configurations().size(); ++c) look_at_configuration(c);
    if (!shard_.is_all()) list_part();
    count_updates();
    count_groups();
    look_at_store();
    form_arrays();
    summary_.trainer_bytes =
        (gpu_ ? kGpuTrainerBytes : kCpuTrainerBytes) + data_bytes_ +
        std::max({summary_.fit_arrays.members.most, summary_.trial_arrays.members.most, std::int64_t{1}}) *
            member_bytes_;
    return std::move(summary_);
  }

 private:
  const DatasetSummary& data_of(std::size_t configuration) const {
    return prepared_.plan.datasets[static_cast<std::size_t>(prepared_.plan.dataset_of[configuration])];
  }

  void look_at_configuration(std::size_t c) {
    const ExperimentSpec spec = prepared_.experiment.resolve(c);
    const DatasetSummary& data = data_of(c);
    summary_.labels.push_back(prepared_.experiment.configurations()[c].label);
    fit_keys_.push_back(fit_array_key(spec, data));
    trial_keys_.push_back(trial_array_key(spec, data));
    const ModelLayout layout = model_layout(spec.model, data.sample_shape, data.classes);
    add_data(spec, data);
    add_model(spec, data, layout);
    member_bytes_ =
        std::max({member_bytes_,
                  static_cast<std::int64_t>(member_bytes(spec, data, layout, spec.train.batch_size, /*backward=*/true)),
                  static_cast<std::int64_t>(trial_bytes(spec, data, layout))});
  }

  void add_data(const ExperimentSpec& spec, const DatasetSummary& data) {
    const std::string description = describe_data(spec.dataset);
    const std::string folds = describe_folds(spec.folds, data);
    auto found = std::find_if(summary_.data.begin(), summary_.data.end(), [&](const PlannedData& d) {
      return d.description == description && d.folds == folds && d.fingerprint == data.fingerprint.hex();
    });
    const bool is_new = found == summary_.data.end();
    if (is_new) {
      PlannedData planned;
      planned.description = description;
      planned.fingerprint = data.fingerprint.hex();
      planned.samples = data.samples;
      planned.sample_shape = data.sample_shape;
      planned.classes = data.classes;
      planned.folds = folds;
      planned.splits = static_cast<std::int64_t>(data.splits.size());
      found = summary_.data.insert(summary_.data.end(), planned);
      std::int64_t values = data.kind == SampleKind::fixed ? data.samples : data.steps;
      for (const std::int64_t extent : data.sample_shape) values *= extent;
      data_bytes_ = std::max(data_bytes_, 2 * 4 * values);  // as loaded, and one fold's normalised and shifted copy
    }
    bool first = is_new;
    for (const SplitSummary& split : data.splits) {
      widen(found->train_n, split.train_n, first);
      widen(found->validation_n, split.validation_n, first);
      widen(found->test_n, split.test_n, first);
      if (spec.ttt.method != "source")
        widen(found->adaptation_n, adaptation_set_size(spec, split.test_n), first || found->adaptation_n.most == 0);
      first = false;
    }
  }

  void add_model(const ExperimentSpec& spec, const DatasetSummary& data, const ModelLayout& layout) {
    const std::string description = describe_model(spec.model, data);
    auto model = std::find_if(summary_.models.begin(), summary_.models.end(),
                              [&](const PlannedModel& m) { return m.description == description; });
    if (model == summary_.models.end()) {
      PlannedModel planned;
      planned.description = description;
      planned.parameters = layout.parameter_count();
      planned.tensors = static_cast<std::int64_t>(layout.parameters.size());
      model = summary_.models.insert(summary_.models.end(), planned);
    }
    ++model->configurations;
    const std::string patterns = describe_patterns(spec.ttt);
    auto adapted = std::find_if(model->adapted.begin(), model->adapted.end(),
                                [&](const AdaptedParameters& a) { return a.patterns == patterns; });
    if (adapted == model->adapted.end()) {
      AdaptedParameters choice;
      choice.patterns = patterns;
      if (spec.ttt.parameters && !spec.ttt.parameters->empty() && spec.ttt.method != "source" &&
          spec.ttt.method != "bn") {
        const std::vector<bool> selected = select_parameters(layout, *spec.ttt.parameters);
        choice.parameters = selected_count(layout, selected);
        choice.names = names_by_pattern(layout, selected);
      }
      adapted = model->adapted.insert(model->adapted.end(), choice);
    }
    ++adapted->configurations;
  }

  void list_part() {
    summary_.part = PlannedPart{shard_, {}};
    for (const FitUnit& fit : prepared_.plan.fits) {
      const SplitSummary& split = prepared_.plan.split(fit);
      summary_.part->fits.push_back({split.repeat, split.fold, {}});
    }
    for (const TrialUnit& trial : prepared_.plan.trials)
      summary_.part->fits[static_cast<std::size_t>(trial.fit)].trials.push_back(
          summary_.labels[static_cast<std::size_t>(trial.configuration)]);
  }

  void count_updates() {
    // Units of one configuration follow one another: its specification is resolved once, not per unit.
    std::int64_t last = -1;
    ExperimentSpec spec;
    const auto spec_of = [&](std::int32_t configuration) -> const ExperimentSpec& {
      if (configuration != last) spec = prepared_.experiment.resolve(static_cast<std::size_t>(configuration));
      last = configuration;
      return spec;
    };
    for (const FitUnit& fit : prepared_.plan.fits) {
      summary_.train_updates += train_updates(spec_of(fit.configuration), prepared_.plan.split(fit).epoch_n);
    }
    for (const TrialUnit& trial : prepared_.plan.trials) {
      summary_.ttt_updates += ttt_updates(spec_of(trial.configuration), prepared_.plan.split(trial).test_n);
    }
  }

  void count_groups() {
    std::map<std::int64_t, std::int64_t> configurations;
    for (const std::int32_t ranks : prepared_.ranks) ++configurations[ranks];
    for (const auto& [ranks, count] : configurations) summary_.groups.push_back({ranks, count, summary_.slots / ranks});
  }

  void look_at_store() {
    fits_done_.assign(prepared_.plan.fits.size(), false);
    trials_over_.assign(prepared_.plan.trials.size(), false);
    if (!is_store_there(db_)) return;
    stored_ = read_stored_units(db_, summary_.name, prepared_.experiment.base().on_nonfinite);
    StoredWork work;
    for (std::size_t i = 0; i < fits_done_.size(); ++i) {
      const auto found = stored_.fits.find(prepared_.plan.fits[i].identity.hex());
      fits_done_[i] = found != stored_.fits.end() && found->second.done;
      if (fits_done_[i]) ++work.fits_done;
    }
    for (std::size_t i = 0; i < trials_over_.size(); ++i) {
      const auto found = stored_.trials.find(prepared_.plan.trials[i].identity.hex());
      if (found == stored_.trials.end()) continue;
      trials_over_[i] = found->second.done;
      work.trials_done += found->second.done ? 1 : 0;
      work.trials_failed += found->second.failed ? 1 : 0;
    }
    summary_.stored = work;
  }

  // A fit whose trials are all there is not computed again, even if it is not in the store.
  std::vector<bool> fits_needed() const {
    std::vector<bool> needed(prepared_.plan.fits.size(), false);
    for (std::size_t i = 0; i < trials_over_.size(); ++i) {
      const auto fit = static_cast<std::size_t>(prepared_.plan.trials[i].fit);
      if (!trials_over_[i] && !fits_done_[fit]) needed[fit] = true;
    }
    return needed;
  }

  void form_arrays() {
    const std::vector<WorkItem> items = work_items(prepared_.experiment, prepared_.plan);
    const int max_array = prepared_.experiment.base().resources.max_array;
    const auto slots = static_cast<int>(summary_.slots);
    Scheduler scheduler(items, gpu_ ? gpu_sizing(slots, max_array) : cpu_sizing(slots, max_array), 0);
    CostModel costs = learn_costs(items);
    const std::vector<bool> needed = fits_needed();
    const std::size_t fits = needed.size();
    double work_s = 0;
    bool known = true;
    const auto add = [&](std::size_t unit) {
      scheduler.make_ready(static_cast<std::int32_t>(unit), -1);
      const double expected_s = costs.expected_s(items[unit]);
      known = known && expected_s >= 0;
      work_s += expected_s;
    };
    for (std::size_t i = 0; i < fits; ++i) {
      if (needed[i]) add(i);
    }
    summary_.fit_arrays = drain(scheduler);
    for (std::size_t i = 0; i < trials_over_.size(); ++i) {
      if (!trials_over_[i]) add(fits + i);
    }
    summary_.trial_arrays = drain(scheduler);
    if (known) summary_.eta_s = work_s / static_cast<double>(std::max<std::int64_t>(summary_.slots, 1));
  }

  static PlannedArrays drain(Scheduler& scheduler) {
    PlannedArrays planned;
    while (const auto array = scheduler.next()) {
      widen(planned.members, static_cast<std::int64_t>(array->units.size()), planned.arrays == 0);
      ++planned.arrays;
    }
    return planned;
  }

  // From this experiment's own units where there are some, or else from units of other experiments that compute alike.
  CostModel learn_costs(const std::vector<WorkItem>& items) const {
    CostModel costs;
    const std::size_t fits = prepared_.plan.fits.size();
    for (const bool own : {false, true}) {
      for (std::size_t i = 0; i < items.size(); ++i) {
        const bool is_fit = i < fits;
        const auto& units = is_fit ? stored_.fits : stored_.trials;
        const Digest& identity = is_fit ? prepared_.plan.fits[i].identity : prepared_.plan.trials[i - fits].identity;
        const auto configuration = static_cast<std::size_t>(is_fit ? prepared_.plan.fits[i].configuration
                                                                   : prepared_.plan.trials[i - fits].configuration);
        if (own) {
          const auto unit = units.find(identity.hex());
          if (unit != units.end() && unit->second.wall_s >= 0)
            costs.observe(items[i], unit->second.wall_s * items[i].ranks);
        } else {
          const auto& times = is_fit ? stored_.fit_wall_s : stored_.trial_wall_s;
          const auto time = times.find(is_fit ? fit_keys_[configuration] : trial_keys_[configuration]);
          if (time != times.end()) costs.observe(items[i], time->second * items[i].ranks);
        }
      }
    }
    return costs;
  }

  const PreparedExperiment& prepared_;
  std::filesystem::path db_;
  bool gpu_;
  Shard shard_;
  PlanSummary summary_;
  StoredUnits stored_;
  std::vector<std::string> fit_keys_, trial_keys_;  // by configuration
  std::vector<bool> fits_done_, trials_over_;
  std::int64_t member_bytes_ = 0;
  std::int64_t data_bytes_ = 0;
};

}  // namespace

PlanSummary summarise_plan(const PreparedExperiment& prepared, const std::filesystem::path& db, int slots, bool gpu,
                           const Shard& shard) {
  return Summariser(prepared, db, slots, gpu, shard).make();
}

}  // namespace tenfold

#include "runner/planning.h"

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "datasets/dataset.h"
#include "datasets/folds.h"
#include "experiments/error.h"
#include "trainer/model_layout.h"

namespace tenfold {
namespace {

// Loads a dataset once, however many folds or models look at it.
class DatasetLoader {
 public:
  explicit DatasetLoader(DataCache cache) : cache_(cache) {}

  DatasetSummary summary(const ExperimentSpec& spec) {
    DatasetSpec unshifted = spec.dataset;
    unshifted.shift = ShiftSpec{};
    if (!loaded_ || !(loaded_->first == unshifted)) {
      loaded_ = std::make_unique<std::pair<DatasetSpec, Dataset>>(unshifted, load_dataset(unshifted));
      if (cache_ == DataCache::write) write_cached_dataset(loaded_->second, cache_folder());
    }
    return summarise(loaded_->second, make_splits(loaded_->second, spec.folds));
  }

 private:
  DataCache cache_;
  std::unique_ptr<std::pair<DatasetSpec, Dataset>> loaded_;  // the last one: sweeps seldom vary the data
};

void check_model(const ExperimentSpec& spec, const DatasetSummary& data) {
  const ModelLayout layout = model_layout(spec.model, data.sample_shape, data.classes);
  if (spec.ttt.parameters && spec.ttt.method != "source" && spec.ttt.method != "bn")
    select_parameters(layout, *spec.ttt.parameters);
  if (spec.ttt.method == "bn" && layout.buffers.empty())
    throw Error(
        ErrorKind::config,
        "ttt.method bn re-estimates the statistics of batch norms, and the model has none: set model.norm: batch "
        "or choose another method");
}

// Every distinct (model, method, parameters) once; all problems in one error.
void check_models(const Experiment& experiment, const Plan& plan) {
  std::set<std::string> seen, problems;
  for (std::size_t c = 0; c < experiment.configurations().size(); ++c) {
    const ExperimentSpec spec = experiment.resolve(c);
    const DatasetSummary& data = plan.datasets[static_cast<std::size_t>(plan.dataset_of[c])];
    std::string key = data.fingerprint.hex() + " " + spec.ttt.method;
    for (const std::string& pattern : spec.ttt.parameters.value_or(std::vector<std::string>{})) key += " " + pattern;
    key += " | " + spec.model.kind + " " + spec.model.norm + " " + std::to_string(spec.model.kernel_size);
    for (const int width : spec.model.hidden) key += " h" + std::to_string(width);
    for (const int channels : spec.model.channels) key += " c" + std::to_string(channels);
    if (!seen.insert(key).second) continue;
    try {
      check_model(spec, data);
    } catch (const Error& error) {
      problems.insert(experiment.placed(c, error.what()));
    }
  }
  if (problems.empty()) return;
  std::string message;
  for (const std::string& problem : problems) message += (message.empty() ? "" : "\n") + problem;
  throw Error(ErrorKind::config, message);
}

}  // namespace

PreparedExperiment prepare_experiment(const std::filesystem::path& file, const std::vector<std::string>& overrides,
                                      bool share_fits, DataCache cache) {
  Experiment experiment = Experiment::load(file, overrides);
  DatasetLoader loader(cache);
  Plan plan = make_plan(
      experiment, [&](const ExperimentSpec& spec) { return loader.summary(spec); }, share_fits);
  check_models(experiment, plan);
  return {std::move(experiment), std::move(plan)};
}

}  // namespace tenfold

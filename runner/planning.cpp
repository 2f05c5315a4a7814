#include "runner/planning.h"

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "datasets/dataset.h"
#include "datasets/folds.h"
#include "datasets/minimal_pairs.h"
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

// The number of its parameters.
std::int64_t check_model(const ExperimentSpec& spec, const DatasetSummary& data) {
  const ModelLayout layout = model_layout(spec.model, data.sample_shape, data.classes);
  if (spec.ttt.parameters && spec.ttt.method != "source" && spec.ttt.method != "bn")
    select_parameters(layout, *spec.ttt.parameters);
  if (spec.ttt.method == "bn" && layout.buffers.empty())
    throw Error(
        ErrorKind::config,
        "ttt.method bn re-estimates the statistics of batch norms, and the model has none: set model.norm: batch "
        "or choose another method");
  return layout.parameter_count();
}

// What diagnostics.minimal_pairs names can be read: tokens as the dataset has them.
void check_minimal_pairs(const ExperimentSpec& spec, const DatasetSummary& data) {
  if (spec.diagnostics.minimal_pairs.empty()) return;
  std::optional<Tokenizer> tokenizer;
  if (spec.dataset.kind == "text") tokenizer.emplace(spec.dataset.tokenizer);
  read_minimal_pairs(spec.diagnostics.minimal_pairs, tokenizer ? &*tokenizer : nullptr, data.classes);
}

// Every distinct (model, method, parameters) once; all problems in one error. The parameters of each configuration's
// model, and its `ranks`.
std::vector<std::int64_t> check_models(const Experiment& experiment, const Plan& plan,
                                       std::vector<std::int32_t>& ranks) {
  std::map<std::string, std::int64_t> seen;
  std::set<std::string> problems;
  std::vector<std::int64_t> parameters;
  for (std::size_t c = 0; c < experiment.configurations().size(); ++c) {
    const ExperimentSpec spec = experiment.resolve(c);
    const DatasetSummary& data = plan.datasets[static_cast<std::size_t>(plan.dataset_of[c])];
    std::string key = data.fingerprint.hex() + " " + spec.ttt.method;
    for (const std::string& pattern : spec.ttt.parameters.value_or(std::vector<std::string>{})) key += " " + pattern;
    key += " | " + to_json(spec).at("model").dump() + spec.diagnostics.minimal_pairs;
    const auto [found, is_new] = seen.try_emplace(key, 0);
    try {
      if (is_new) {
        found->second = check_model(spec, data);
        check_minimal_pairs(spec, data);
      }
    } catch (const Error& error) {
      problems.insert(experiment.placed(c, error.what()));
    }
    parameters.push_back(found->second);
    ranks.push_back(spec.resources.ranks_per_trial);
  }
  if (problems.empty()) return parameters;
  std::string message;
  for (const std::string& problem : problems) message += (message.empty() ? "" : "\n") + problem;
  throw Error(ErrorKind::config, message);
}

}  // namespace

PreparedExperiment prepare_experiment(const std::filesystem::path& file, const std::vector<std::string>& overrides,
                                      bool share_fits, DataCache cache, const Shard& shard) {
  Experiment experiment = Experiment::load(file, overrides);
  DatasetLoader loader(cache);
  Plan plan = make_plan(
      experiment, [&](const ExperimentSpec& spec) { return loader.summary(spec); }, share_fits);
  std::vector<std::int32_t> ranks;
  std::vector<std::int64_t> parameters = check_models(experiment, plan, ranks);
  std::vector<std::string> identities = configuration_identities(experiment.configurations().size(), plan);
  plan = take_shard(std::move(plan), shard);
  return {std::move(experiment), std::move(plan), std::move(parameters), std::move(ranks), std::move(identities)};
}

}  // namespace tenfold

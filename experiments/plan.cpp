#include "experiments/plan.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "experiments/error.h"
#include "experiments/identity.h"
#include "experiments/method_defaults.h"
#include "experiments/problems.h"

namespace tenfold {
namespace {

std::int64_t batches(std::int64_t samples, std::int64_t batch_size) { return (samples + batch_size - 1) / batch_size; }

// The configurations' datasets, each looked at once. Equal specifications follow each other in most sweeps, so the
// last one is compared first.
class DatasetTable {
 public:
  DatasetTable(const DatasetSummariser& summarise, std::vector<DatasetSummary>& summaries)
      : summarise_(summarise), summaries_(summaries) {}

  std::int32_t find(const ExperimentSpec& spec) {
    if (!indices_.empty() && spec.dataset == last_.first && spec.folds == last_.second) return last_index_;
    last_ = {spec.dataset, spec.folds};
    return last_index_ = search(spec);
  }

 private:
  using Key = std::pair<DatasetSpec, FoldSpec>;

  std::int32_t search(const ExperimentSpec& spec) {
    Key key{spec.dataset, spec.folds};
    key.first.shift = {};
    key.first.normalisation = DatasetSpec{}.normalisation;  // applied to gathered samples: another fit, the same data
    for (std::size_t i = 0; i < keys_.size(); ++i)
      if (keys_[i] == key) return indices_[i];
    summaries_.push_back(summarise_(spec));
    keys_.push_back(std::move(key));
    indices_.push_back(static_cast<std::int32_t>(summaries_.size()) - 1);
    return indices_.back();
  }

  const DatasetSummariser& summarise_;
  std::vector<DatasetSummary>& summaries_;
  std::vector<Key> keys_;
  std::vector<std::int32_t> indices_;
  Key last_;
  std::int32_t last_index_ = -1;
};

// What the specification alone could not tell. One finding per configuration and key, worded with the fold it is
// worst in.
class DataChecks {
 public:
  DataChecks(const Experiment& experiment) : experiment_(experiment) {}

  void check(std::int32_t configuration, const ExperimentSpec& spec, const DatasetSummary& data) {
    if (data.splits.empty()) {
      add(configuration, "folds", "the folds of this dataset are empty");
      return;
    }
    if (data.classes < 2)
      add(configuration, "dataset",
          "the dataset has " + std::to_string(data.classes) + " class; at least 2 are needed");
    // Every distinct (dataset, keys) pair is looked at once: sweeps repeat them many thousand times.
    const auto seen = std::make_tuple(&data, spec.train.batch_size, *spec.ttt.batch_size, *spec.ttt.query_size,
                                      spec.folds.validation > 0, spec.ttt.method == "source");
    if (!seen_.insert(seen).second) return;
    const auto by = [&](auto member) {
      return *std::min_element(data.splits.begin(), data.splits.end(),
                               [&](const auto& a, const auto& b) { return a.*member < b.*member; });
    };
    const SplitSummary train = by(&SplitSummary::train_n), test = by(&SplitSummary::test_n),
                       validation = by(&SplitSummary::validation_n);
    if (train.train_n < 1)
      add(configuration, "folds", "nothing is left to train on in " + name(train));
    else if (spec.train.batch_size > train.train_n)
      add(configuration, "train.batch_size",
          value(configuration, "train.batch_size", spec.train.batch_size) + ", more than the " +
              std::to_string(train.train_n) + " training samples of " + name(train) + ": give a smaller one");
    if (test.test_n < 1) add(configuration, "folds", "no sample is held out in " + name(test));
    const std::int64_t query = adaptation_set_size(spec, test.test_n);
    if (spec.ttt.method != "source" && test.test_n > 0 && *spec.ttt.batch_size > query)
      add(configuration, "ttt.batch_size",
          value(configuration, "ttt.batch_size", *spec.ttt.batch_size) + ", more than the " + std::to_string(query) +
              " samples that " + name(test) + " adapts on: give a smaller one");
    if (spec.folds.validation > 0 && validation.validation_n < 1)
      add(configuration, "folds.validation", "folds.validation leaves no validation sample in " + name(validation));
  }
  // The first pair is named, the others are counted: a useless axis doubles everything.
  void check_same(std::int32_t first, std::int32_t second) {
    if (same_pairs_++ > 0) return;
    const auto& configurations = experiment_.configurations();
    same_ = experiment_.where(static_cast<std::size_t>(second), "sweep") + ": configurations " +
            quote(configurations[static_cast<std::size_t>(first)].label) + " and " +
            quote(configurations[static_cast<std::size_t>(second)].label) +
            " compute the same: take one out, such as by sweep.exclude";
  }
  void throw_if_any() {
    if (same_pairs_ > 0) problems_.insert(same_ + (same_pairs_ > 1 ? " (and more pairs like these)" : ""));
    if (problems_.empty()) return;
    std::string text;
    std::size_t shown = 0;
    for (const std::string& problem : problems_) {
      if (++shown > 50) break;
      text += (text.empty() ? "" : "\n") + problem;
    }
    if (problems_.size() > 50) text += "\nand " + std::to_string(problems_.size() - 50) + " more like these";
    throw Error(ErrorKind::config, text);
  }

 private:
  static std::string name(const SplitSummary& split) {
    return "fold " + std::to_string(split.fold) + " of repeat " + std::to_string(split.repeat);
  }
  // Who never wrote the key is told where its value comes from.
  std::string value(std::int32_t configuration, const std::string& key, int number) const {
    return key + " is " + std::to_string(number) +
           (experiment_.gives(static_cast<std::size_t>(configuration), key) ? "" : " (the default)");
  }
  void add(std::int32_t configuration, std::string_view key, const std::string& message) {
    problems_.insert(experiment_.where(static_cast<std::size_t>(configuration), key) + ": " + message);
  }

  const Experiment& experiment_;
  std::set<std::string> problems_;
  std::string same_;
  std::size_t same_pairs_ = 0;
  std::set<std::tuple<const DatasetSummary*, int, int, int, bool, bool>> seen_;
};

void check_distinct(const Plan& plan, DataChecks& checks) {
  std::vector<std::int32_t> order(plan.trials.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int32_t>(i);
  const auto trial = [&](std::int32_t i) -> const TrialUnit& { return plan.trials[static_cast<std::size_t>(i)]; };
  std::sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return std::tie(trial(a).identity, a) < std::tie(trial(b).identity, b);
  });
  for (std::size_t i = 1; i < order.size(); ++i)
    if (trial(order[i]).identity == trial(order[i - 1]).identity &&
        trial(order[i]).configuration != trial(order[i - 1]).configuration)
      checks.check_same(trial(order[i - 1]).configuration, trial(order[i]).configuration);
}

// What the data refuse, with the place of the key or file that it is about.
std::int32_t find_dataset(const Experiment& experiment, std::int32_t configuration, const ExperimentSpec& spec,
                          DatasetTable& datasets) {
  try {
    return datasets.find(spec);
  } catch (const Error& error) {
    throw Error(error.kind(), experiment.placed(static_cast<std::size_t>(configuration), error.what()));
  }
}

}  // namespace

Plan make_plan(const Experiment& experiment, const DatasetSummariser& summarise, bool share_fits) {
  Plan plan;
  DataChecks checks(experiment);
  const auto count = static_cast<std::int32_t>(experiment.configurations().size());
  plan.dataset_of.reserve(static_cast<std::size_t>(count));
  DatasetTable datasets(summarise, plan.datasets);
  plan.datasets.reserve(16);
  // Fits of a (content, dataset), by split: they follow each other in Plan::fits.
  std::map<std::pair<Digest, std::int32_t>, std::int32_t> first_fit;
  for (std::int32_t configuration = 0; configuration < count; ++configuration) {
    const ExperimentSpec spec = experiment.resolve(static_cast<std::size_t>(configuration));
    const std::int32_t dataset = find_dataset(experiment, configuration, spec, datasets);
    plan.dataset_of.push_back(dataset);
    const DatasetSummary& data = plan.datasets[static_cast<std::size_t>(dataset)];
    checks.check(configuration, spec, data);
    const auto splits = static_cast<std::int32_t>(data.splits.size());
    if (configuration == 0) plan.trials.reserve(static_cast<std::size_t>(count) * static_cast<std::size_t>(splits));

    const Digest fit_part = fit_content(spec);
    const Digest trial_part = trial_content(spec);
    const auto [entry, is_new] =
        first_fit.try_emplace({fit_part, dataset}, static_cast<std::int32_t>(plan.fits.size()));
    for (std::int32_t split = 0; split < splits; ++split) {
      const Digest shared = is_new || !share_fits
                                ? fit_identity(fit_part, data, data.splits[static_cast<std::size_t>(split)])
                                : plan.fits[static_cast<std::size_t>(entry->second + split)].identity;
      const Digest trial = trial_identity(shared, trial_part);
      std::int32_t fit = entry->second + split;
      if (!share_fits) {
        fit = static_cast<std::int32_t>(plan.fits.size());
        plan.fits.push_back({unshared_fit_identity(trial), configuration, split});
      } else if (is_new) {
        plan.fits.push_back({shared, configuration, split});
      }
      plan.trials.push_back({trial, configuration, split, fit});
    }
  }
  check_distinct(plan, checks);
  checks.throw_if_any();
  return plan;
}

std::int64_t train_updates_per_epoch(const ExperimentSpec& spec, std::int64_t epoch_n) {
  return batches(epoch_n, spec.train.batch_size);
}

bool trains_nothing(const TrainSpec& train) { return train.parameters == std::vector<std::string>{"none"}; }

std::int64_t train_updates(const ExperimentSpec& spec, std::int64_t epoch_n) {
  if (trains_nothing(spec.train)) return 0;
  return spec.train.steps ? *spec.train.steps : spec.train.epochs * train_updates_per_epoch(spec, epoch_n);
}

std::int64_t adaptation_set_size(const ExperimentSpec& spec, std::int64_t test_n) {
  const MethodDefaults defaults = method_defaults(spec.ttt.method);
  const std::int64_t query = spec.ttt.query_size.value_or(defaults.query_size);
  return query == 0 ? test_n : std::min(query, test_n);
}

std::int64_t ttt_updates(const ExperimentSpec& spec, std::int64_t test_n) {
  const MethodDefaults defaults = method_defaults(spec.ttt.method);
  if (!defaults.adapts) return 0;
  return spec.ttt.steps.value_or(defaults.steps) *
         batches(adaptation_set_size(spec, test_n), spec.ttt.batch_size.value_or(defaults.batch_size));
}

}  // namespace tenfold

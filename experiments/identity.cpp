#include "experiments/identity.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <vector>

#include "experiments/field_access.h"
#include "experiments/number_text.h"
#include "experiments/spec_access.h"

namespace tenfold {
namespace {

// Collects "key=value" lines of what differs from the introduced defaults. Sweeps plan many thousand trials, so a key
// costs a string only where it differs.
class Content {
 public:
  template <Section S>
  void add(std::string_view path, const S& section, const S& reference) {
    Fields<S>::visit([&](const Field& field, auto member) {
      const auto& value = section.*member;
      using T = std::remove_cvref_t<decltype(value)>;
      // A section is entered even when equal: a default inside it may have changed since it was introduced.
      if (!Section<T> && value == reference.*member && field.introduced_as.empty()) return;
      std::string key(path);
      key += '.';
      key += field.key;
      add_value(key, field, value, reference.*member);
    });
  }
  template <class T>
  void add_value(const std::string& key, const Field& field, const T& value, const T& reference) {
    if constexpr (Section<T>) {
      add(key, value, reference);
    } else if constexpr (OptionalValue<T>) {
      if constexpr (Section<typename T::value_type>) {
        if (!value) return;
        lines_.push_back(key);
        add(key, *value, typename T::value_type{});
      } else {
        if (value == reference && field.introduced_as.empty()) return;
        add_line(key, field, value ? canonical(*value) : "null");
      }
    } else if (value != reference || !field.introduced_as.empty()) {
      add_line(key, field, canonical(value));
    }
  }
  Digest digest(std::string_view purpose) {
    std::sort(lines_.begin(), lines_.end());
    std::string text = "tenfold " + std::string(purpose) + " " + std::to_string(kResultsVersion) + "\n";
    for (const std::string& line : lines_) text += line + "\n";
    return sha256(text);
  }

 private:
  template <class T>
  static std::string canonical(const T& value) {
    if constexpr (ListValue<T>) {
      std::string out = "[";
      for (const auto& item : value) out += canonical(item) + ",";
      return out + "]";
    } else if constexpr (std::is_same_v<T, std::string>) {
      return nlohmann::json(value).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
    } else {
      return scalar_text(value);
    }
  }
  void add_line(const std::string& key, const Field& field, std::string text) {
    if (field.introduced_as.empty() || text != field.introduced_as) lines_.push_back(key + "=" + std::move(text));
  }
  std::vector<std::string> lines_;
};

const ExperimentSpec& defaults() {
  static const ExperimentSpec spec;
  return spec;
}

// Values that nothing reads take their default, so that they cannot tell results apart.
void forget_unused(OptimizerSpec& optimizer) {
  const OptimizerSpec unused;
  if (optimizer.kind != "sgd") {
    optimizer.momentum = unused.momentum;
    optimizer.nesterov = unused.nesterov;
  } else {
    optimizer.beta1 = unused.beta1;
    optimizer.beta2 = unused.beta2;
    optimizer.eps = unused.eps;
  }
}

}  // namespace

Digest fit_content(const ExperimentSpec& spec) {
  ModelSpec model = spec.model;
  TrainSpec train = spec.train;
  if (model.kind != "cnn") {
    model.channels = ModelSpec{}.channels;
    model.kernel_size = ModelSpec{}.kernel_size;
  }
  if (model.kind != "mlp" && model.kind != "cnn") {
    model.hidden = ModelSpec{}.hidden;
    model.norm = ModelSpec{}.norm;
    model.activation = ModelSpec{}.activation;
  }
  std::sort(train.parameters.begin(), train.parameters.end());
  if (train.steps) train.epochs = TrainSpec{}.epochs;
  forget_unused(train.optimizer);
  Content content;
  content.add("model", model, defaults().model);
  content.add("train", train, defaults().train);
  const Field plain{};
  content.add_value("seed", plain, spec.seed, defaults().seed);
  // Only a cnn has convolutions to be slower at.
  content.add_value("deterministic", plain, spec.deterministic && model.kind == "cnn", false);
  content.add_value("precision", plain, spec.precision, defaults().precision);
  content.add_value("resources.ranks_per_trial", plain, spec.resources.ranks_per_trial, 1);
  content.add_value("dataset.normalisation", plain, spec.dataset.normalisation, defaults().dataset.normalisation);
  content.add_value("dataset.normalise_by", plain, spec.dataset.normalise_by, defaults().dataset.normalise_by);
  content.add_value("dataset.length_buckets", plain, spec.dataset.length_buckets, defaults().dataset.length_buckets);
  return content.digest("fit");
}

Digest trial_content(const ExperimentSpec& spec) {
  ShiftSpec shift = spec.dataset.shift;
  if (shift.kind == "none") shift = {};
  TttSpec ttt = spec.ttt;
  if (ttt.parameters) std::sort(ttt.parameters->begin(), ttt.parameters->end());
  std::vector<std::string> metrics = spec.metrics;
  std::sort(metrics.begin(), metrics.end());
  std::vector<std::string> default_metrics = defaults().metrics;
  std::sort(default_metrics.begin(), default_metrics.end());
  // The pairs themselves are what is measured, wherever their file lies. A file that is not there is told later.
  DiagnosticsSpec diagnostics = spec.diagnostics;
  std::error_code ignored;
  if (!diagnostics.minimal_pairs.empty() && std::filesystem::is_regular_file(diagnostics.minimal_pairs, ignored))
    diagnostics.minimal_pairs = sha256_file(diagnostics.minimal_pairs).hex();
  Content content;
  content.add("dataset.shift", shift, defaults().dataset.shift);
  content.add("ttt", ttt, defaults().ttt);
  content.add("diagnostics", diagnostics, defaults().diagnostics);  // curves are results, too
  const Field plain{};
  content.add_value("metrics", plain, metrics, default_metrics);
  // Which class is unseen follows from the folds' kind.
  content.add_value("folds.unseen_class", plain, spec.folds.kind == "held_out_class", false);
  return content.digest("trial");
}

Digest fit_identity(const Digest& fit_content, const DatasetSummary& data, const SplitSummary& split) {
  const std::string place =
      std::to_string(data.classes) + " " + std::to_string(split.repeat) + " " + std::to_string(split.fold);
  Hasher hasher;
  hasher.update(fit_content.bytes.data(), fit_content.bytes.size());
  hasher.update(data.fingerprint.bytes.data(), data.fingerprint.bytes.size());
  hasher.update(split.hash.bytes.data(), split.hash.bytes.size());
  hasher.update(place);  // random streams are keyed by repeat and fold
  return hasher.finish();
}

Digest trial_identity(const Digest& fit_identity, const Digest& trial_content) {
  Hasher hasher;
  hasher.update(fit_identity.bytes.data(), fit_identity.bytes.size());
  hasher.update(trial_content.bytes.data(), trial_content.bytes.size());
  return hasher.finish();
}

Digest unshared_fit_identity(const Digest& trial_identity) {
  Hasher hasher;
  hasher.update("fit of one trial");
  hasher.update(trial_identity.bytes.data(), trial_identity.bytes.size());
  return hasher.finish();
}

bool goes_alike(const NonFiniteCourse& course, const NonFiniteSpec& policy) {
  if (course.stopped) return policy.policy == "stop";
  if (course.rate_lowered == 0) return true;
  double scale = 1;
  for (std::int64_t i = 0; i < course.rate_lowered; ++i) scale *= policy.factor;
  return policy.policy == "lower_rate" && course.rate_lowered <= policy.times && scale == course.rate_scale;
}

Digest fit_identity_apart(const Digest& fit_identity, const NonFiniteSpec& policy) {
  Hasher hasher;
  hasher.update("fit by on_nonfinite " + policy.policy);
  if (policy.policy == "lower_rate")
    hasher.update(" " + number_text(policy.factor) + " " + std::to_string(policy.times));
  hasher.update(fit_identity.bytes.data(), fit_identity.bytes.size());
  return hasher.finish();
}

}  // namespace tenfold

#include <string>
#include <string_view>

#include "experiments/field_access.h"
#include "experiments/plan.h"

// What must agree for units to be computed as one array: tensor shapes, and the kind of operations. What a stacked
// computation holds as a value per member (rates, weights, schedules, probabilities, seeds) may differ.
namespace tenfold {
namespace {

class Key {
 public:
  explicit Key(std::string_view stage) : text_(stage) {}
  template <class T>
  Key& add(std::string_view name, const T& value) {
    text_ += ' ';
    text_ += name;
    text_ += '=';
    if constexpr (ListValue<T>)
      for (const auto& item : value) text_ += scalar_text(item) + ",";
    else if constexpr (OptionalValue<T>)
      text_ += value ? scalar_text(*value) : "-";
    else
      text_ += scalar_text(value);
    return *this;
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

void add_model(Key& key, const ExperimentSpec& spec, const DatasetSummary& data) {
  const ModelSpec& model = spec.model;
  key.add("data", data.fingerprint.hex()).add("shape", data.sample_shape).add("classes", data.classes);
  key.add("model", model.kind).add("hidden", model.hidden).add("norm", model.norm);
  key.add("activation", model.activation).add("dropout", model.dropout > 0);
  if (model.kind == "cnn")
    key.add("channels", model.channels).add("kernel", model.kernel_size).add("deterministic", spec.deterministic);
}

}  // namespace

std::string fit_array_key(const ExperimentSpec& spec, const DatasetSummary& data) {
  const TrainSpec& train = spec.train;
  Key key("fit");
  add_model(key, spec, data);
  key.add("batch", train.batch_size).add("optimizer", train.optimizer.kind);
  // Members advance together: as many epochs or updates, evaluated at the same steps.
  if (train.steps)
    key.add("steps", train.steps);
  else
    key.add("epochs", train.epochs);
  key.add("eval", train.eval_every_steps).add("validation", spec.folds.validation > 0);
  key.add("early_stopping", train.early_stopping.patience > 0);
  return key.take();
}

std::string trial_array_key(const ExperimentSpec& spec, const DatasetSummary& data) {
  const TttSpec& ttt = spec.ttt;
  Key key("adapt");
  add_model(key, spec, data);
  key.add("method", ttt.method).add("steps", ttt.steps).add("batch", ttt.batch_size).add("query", ttt.query_size);
  if (ttt.parameters) key.add("parameters", *ttt.parameters);
  key.add("optimizer", ttt.optimizer.kind).add("mode", ttt.mode).add("reset", ttt.reset);
  key.add("eval", ttt.eval_every_steps).add("metrics", spec.metrics);
  return key.take();
}

}  // namespace tenfold

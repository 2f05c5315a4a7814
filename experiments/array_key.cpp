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

// Inner rates and initial gates are values per member.
void add_sequence_model(Key& key, const ExperimentSpec& spec) {
  const ModelSpec& model = spec.model;
  const TttLayerSpec& ttt = model.ttt;
  key.add("buckets", spec.dataset.length_buckets).add("layers", model.layers).add("units", model.units);
  key.add("bidirectional", model.bidirectional).add("width", model.width).add("heads", model.heads);
  key.add("feed_forward", model.feed_forward).add("tie", model.tie_embeddings).add("rope", model.rope_base);
  key.add("checkpoint", model.checkpoint).add("inner_model", ttt.kind).add("placed", ttt.layers);
  key.add("mini_batch", ttt.mini_batch_size).add("inner_layers", ttt.inner_layers);
  key.add("iterations", ttt.inner_iterations).add("inner_clip", ttt.inner_clip_norm).add("persistent", ttt.persistent);
  key.add("group_size", ttt.checkpoint_group_size).add("dialect", ttt.dialect).add("share_qk", ttt.share_qk);
  key.add("use_gate", ttt.use_gate).add("pre_conv", ttt.pre_conv).add("encoder", ttt.encoder);
  key.add("decoder_ln", ttt.decoder_ln).add("inner", ttt.inner).add("window", ttt.inner_window);
  key.add("sequence_length", ttt.sequence_length).add("use_sgd", ttt.use_sgd);
  key.add("lora", model.lora.rank).add("lora_scaling", model.lora.scaling).add("lora_at", model.lora.projections);
  const GroupRatesSpec& rates = spec.train.group_lr;
  key.add("group_rates", rates.ttt || rates.gate || rates.lora || rates.base);
}

void add_model(Key& key, const ExperimentSpec& spec, const DatasetSummary& data) {
  const ModelSpec& model = spec.model;
  key.add("data", data.fingerprint.hex()).add("shape", data.sample_shape).add("classes", data.classes);
  key.add("precision", spec.precision).add("model", model.kind).add("dropout", model.dropout > 0);
  if (data.kind != SampleKind::fixed) return add_sequence_model(key, spec);
  key.add("hidden", model.hidden).add("norm", model.norm).add("activation", model.activation);
  if (model.kind == "cnn")
    key.add("channels", model.channels).add("kernel", model.kernel_size).add("deterministic", spec.deterministic);
}

}  // namespace

std::string fit_array_key(const ExperimentSpec& spec, const DatasetSummary& data) {
  const TrainSpec& train = spec.train;
  Key key("fit");
  add_model(key, spec, data);
  key.add("batch", train.batch_size).add("optimizer", train.optimizer.kind).add("trains", train.parameters);
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
  const InnerLossSpec& inner = spec.diagnostics.inner_loss;
  key.add("inner_loss", inner.every).add("inner_positions", inner.max_positions).add("inner_layers", inner.layers);
  if (!spec.diagnostics.minimal_pairs.empty()) key.add("minimal_pairs", spec.diagnostics.minimal_pairs);
  // Where a sample's prediction depends on its batch, evaluation takes the batches of training.
  if (data.kind != SampleKind::fixed) key.add("train_batch", spec.train.batch_size);
  return key.take();
}

}  // namespace tenfold

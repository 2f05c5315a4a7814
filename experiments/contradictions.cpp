#include "experiments/contradictions.h"

#include <algorithm>

namespace tenfold {
namespace {

bool is_one_of(std::string_view value, std::initializer_list<std::string_view> values) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

bool reads_tokens(const DatasetSpec& dataset) { return is_one_of(dataset.kind, {"text", "tokens"}); }

bool reads_sequences(const DatasetSpec& dataset) {
  return is_one_of(dataset.kind, {"hdf5", "mat", "wav", "synthetic_sequences"}) ||
         (dataset.kind == "npz" && !dataset.offsets_key.empty());
}

bool has_groups(const DatasetSpec& dataset) {
  if (dataset.kind == "csv") return !dataset.group_column.empty();
  if (dataset.kind == "npy") return !dataset.groups.empty();
  if (dataset.kind == "npz") return !dataset.groups_key.empty();
  if (is_one_of(dataset.kind, {"synthetic", "synthetic_sequences"})) return dataset.group_count > 0;
  if (is_one_of(dataset.kind, {"hdf5", "mat"})) return !dataset.session_attribute.empty();
  return dataset.kind == "wav" && dataset.file_pattern.find("<group>") != std::string::npos;
}

const char* how_to_give_groups(const std::string& kind) {
  if (kind == "csv") return "give dataset.group_column";
  if (kind == "npy") return "give dataset.groups";
  if (kind == "npz") return "give dataset.groups_key";
  if (is_one_of(kind, {"synthetic", "synthetic_sequences"})) return "give dataset.group_count";
  if (is_one_of(kind, {"hdf5", "mat"})) return "give dataset.session_attribute";
  if (kind == "wav") return "give dataset.file_pattern a part (?<group>...)";
  return "this kind of dataset has none";
}

void dataset_contradictions(const DatasetSpec& dataset, const ReportContradiction& report) {
  const std::string& kind = dataset.kind;
  if (kind.empty()) {
    report("dataset",
           "dataset.kind is missing; allowed: digits, csv, npy, npz, idx, synthetic, hdf5, mat, wav, "
           "synthetic_sequences, text, tokens");
    return;
  }
  const bool from_file = is_one_of(kind, {"csv", "npy", "npz", "idx", "hdf5", "mat", "wav", "text", "tokens"});
  if (from_file && dataset.path.empty()) report("dataset", "dataset.path is missing: kind " + kind + " reads a file");
  if (is_one_of(kind, {"npy", "idx"}) && dataset.labels.empty())
    report("dataset", "dataset.labels is missing: kind " + kind + " has its labels in a file of their own");
  if (kind == "csv" && dataset.label_column.empty())
    report("dataset", "dataset.label_column is missing: which column of the csv holds the class?");
  if (kind == "synthetic" && dataset.classes > dataset.samples)
    report("dataset.classes", "dataset.classes is " + std::to_string(dataset.classes) +
                                  ", more than dataset.samples (" + std::to_string(dataset.samples) + ")");
  if (kind == "synthetic_sequences" &&
      !(dataset.min_steps <= dataset.mean_steps && dataset.mean_steps <= dataset.max_steps))
    report("dataset.mean_steps", "dataset.mean_steps is not between dataset.min_steps and dataset.max_steps");
  if (dataset.normalise_by == "group" && !has_groups(dataset))
    report("dataset.normalise_by", std::string("dataset.normalise_by group needs groups: ") + how_to_give_groups(kind));
  if (reads_tokens(dataset) && dataset.shift.kind != "none")
    report("dataset.shift", "dataset.shift " + dataset.shift.kind + " changes numbers, and dataset.kind " + kind +
                                " is made of tokens; allowed: none");
  if (is_one_of(dataset.shift.kind, {"blur", "translate", "rotate"}) &&
      (is_one_of(kind, {"csv", "synthetic"}) || reads_sequences(dataset)))
    report("dataset.shift", "dataset.shift " + dataset.shift.kind + " needs images, and dataset.kind " + kind +
                                " has none; allowed: gaussian_noise, contrast, feature_dropout, none");
}

void fold_contradictions(const ExperimentSpec& spec, const ReportContradiction& report) {
  const FoldSpec& folds = spec.folds;
  const DatasetSpec& dataset = spec.dataset;
  if (is_one_of(folds.kind, {"group", "stratified_group", "leave_one_group_out"}) && !dataset.kind.empty() &&
      !has_groups(dataset))
    report("folds.kind", "folds.kind " + folds.kind + " needs groups: " + how_to_give_groups(dataset.kind));
  if (folds.kind == "predefined") {
    if (dataset.kind != "csv")
      report("folds.kind", "folds.kind predefined needs a column of a csv file, and dataset.kind is " + dataset.kind);
    else if (dataset.fold_column.empty())
      report("folds.kind", "folds.kind predefined needs dataset.fold_column: which column holds the fold?");
  }
  if (folds.repeats > 1 && is_one_of(folds.kind, {"leave_one_group_out", "predefined"}))
    report("folds.repeats", "folds.repeats is " + std::to_string(folds.repeats) + ", but folds.kind " + folds.kind +
                                " has nothing random to repeat; allowed: 1");
  if (folds.kind == "repeated" && folds.repeats < 2)
    report("folds.kind", "folds.kind repeated needs folds.repeats of 2 or more");
  for (const std::string& metric : spec.metrics)
    if (is_one_of(metric, {"auroc_unseen", "detection_rate_5"}) && folds.kind != "held_out_class")
      report("metrics",
             "metric " + metric + " is about a class that training never saw: it needs folds.kind held_out_class");
  for (const std::string& metric : spec.metrics) {
    if (!reads_tokens(dataset) && metric == "bits_per_byte")
      report("metrics", "metric bits_per_byte is about text, and dataset.kind is " + dataset.kind);
    if (reads_tokens(dataset) && !is_one_of(metric, {"accuracy", "nll", "perplexity", "bits_per_byte", "ece"}))
      report("metrics", "metric " + metric + " is about classes, and dataset.kind " + dataset.kind +
                            " has tokens; allowed: accuracy, nll, perplexity, bits_per_byte, ece");
  }
  if (reads_tokens(dataset) && is_one_of(folds.kind, {"stratified", "stratified_group", "repeated", "held_out_class"}))
    report("folds.kind", "folds.kind " + folds.kind + " needs a class of every sample, and dataset.kind " +
                             dataset.kind + " has none; allowed: kfold");
  if (spec.metrics.empty()) report("metrics", "metrics is empty: give at least one");
}

void schedule_contradictions(const char* section, const ScheduleSpec& schedule, double lr,
                             const ReportContradiction& report) {
  if (schedule.kind != "constant" && schedule.min_lr > lr)
    report(std::string(section) + ".min_lr", std::string(section) + ".min_lr is above the learning rate itself");
}

void training_contradictions(const ExperimentSpec& spec, const ReportContradiction& report) {
  const TrainSpec& train = spec.train;
  const bool validates = spec.folds.validation > 0;
  if (!validates && train.early_stopping.patience > 0)
    report("train.early_stopping", "train.early_stopping needs a validation part: give folds.validation, such as 0.1");
  if (!validates && train.schedule.kind == "plateau")
    report("train.schedule", "train.schedule plateau needs a validation part: give folds.validation, such as 0.1");
  if (!validates && train.eval_every_steps)
    report("train.eval_every_steps",
           "train.eval_every_steps evaluates the validation part: give folds.validation, such as 0.1");
  schedule_contradictions("train.schedule", train.schedule, train.optimizer.lr, report);
  if (is_one_of(spec.model.kind, {"mlp", "cnn"}) && spec.model.norm == "batch" && train.batch_size == 1)
    report("train.batch_size",
           "train.batch_size is 1, but model.norm batch needs at least 2 samples for its statistics");
  if (train.optimizer.nesterov && train.optimizer.kind == "sgd" && train.optimizer.momentum == 0)
    report("train.optimizer.nesterov", "train.optimizer.nesterov needs a momentum above 0");
}

void model_contradictions(const ExperimentSpec& spec, const ReportContradiction& report) {
  const ModelSpec& model = spec.model;
  const bool recurrent = is_one_of(model.kind, {"ttt_rnn", "gru", "lstm"});
  const bool language = is_one_of(model.kind, {"ttt_lm", "transformer_lm"});
  const char* allowed = reads_tokens(spec.dataset)      ? "ttt_lm, transformer_lm"
                        : reads_sequences(spec.dataset) ? "ttt_rnn, gru, lstm"
                                                        : "mlp, cnn";
  if (!spec.dataset.kind.empty() &&
      (language != reads_tokens(spec.dataset) || recurrent != reads_sequences(spec.dataset)))
    report("model.kind", "model.kind " + model.kind + " cannot take the samples of dataset.kind " + spec.dataset.kind +
                             "; allowed: " + allowed);
  if (language && model.ttt.inner_iterations != 1)
    report("model.ttt.inner_iterations",
           "model.ttt.inner_iterations is " + std::to_string(model.ttt.inner_iterations) +
               ", but TTT-Linear and TTT-MLP make one inner step per mini-batch; allowed: 1");
  if (language && model.width % model.heads != 0)
    report("model.heads", "model.heads is " + std::to_string(model.heads) + ", which does not divide model.width (" +
                              std::to_string(model.width) + ")");
  if (language && model.heads > 0 && model.width % model.heads == 0 && model.width / model.heads % 2 != 0)
    report("model.heads", "model.width / model.heads is " + std::to_string(model.width / model.heads) +
                              ", and rotary positions turn pairs: it must be even");
  if (model.kind != "cnn") return;
  if (model.channels.empty()) report("model.channels", "model.channels is empty: a cnn needs at least one convolution");
  if (model.kernel_size % 2 == 0)
    report("model.kernel_size", "model.kernel_size is " + std::to_string(model.kernel_size) + "; allowed: odd numbers");
  if (is_one_of(spec.dataset.kind, {"csv", "synthetic"}))
    report("model.kind",
           "model.kind cnn needs images, and dataset.kind " + spec.dataset.kind + " has none; allowed: mlp");
}

void group_contradictions(const ExperimentSpec& spec, const ReportContradiction& report) {
  const int ranks = spec.resources.ranks_per_trial;
  if (ranks <= 1) return;
  if (spec.model.kind == "ttt_rnn" && spec.model.ttt.inner == "per_batch")
    report("resources.ranks_per_trial",
           "resources.ranks_per_trial is " + std::to_string(ranks) +
               ", but model.ttt.inner per_batch has one inner loop over all samples of a batch, which cannot be shared "
               "out; give model.ttt.inner per_sequence, or ranks_per_trial 1");
  if (ranks > spec.train.batch_size)
    report("resources.ranks_per_trial", "resources.ranks_per_trial is " + std::to_string(ranks) +
                                            ", more than train.batch_size (" + std::to_string(spec.train.batch_size) +
                                            "): some would have nothing to compute");
}

void adaptation_contradictions(const ExperimentSpec& spec, const ReportContradiction& report) {
  const TttSpec& ttt = spec.ttt;
  // Language models always have norms, recurrent ones but in the decoder of a ttt_rnn.
  const std::string& kind = spec.model.kind;
  const std::string norm = is_one_of(kind, {"mlp", "cnn"})    ? spec.model.norm
                           : is_one_of(kind, {"gru", "lstm"}) ? "none"
                           : kind == "ttt_rnn"                ? (spec.model.ttt.decoder_ln ? "layer" : "none")
                                                              : "layer";
  if (ttt.method == "source") return;
  if (ttt.method == "bn" && norm != "batch")
    report("ttt.method", "ttt.method bn adapts the statistics of batch norms: give model.norm batch");
  if (ttt.method == "tent" && norm == "none")
    report("ttt.method", "ttt.method tent adapts norm layers: give model.norm layer or batch");
  const auto& parameters = *ttt.parameters;
  if (parameters.empty()) report("ttt.parameters", "ttt.parameters is empty: to adapt nothing, give ttt.method source");
  const bool names_norm = std::find(parameters.begin(), parameters.end(), "norm") != parameters.end();
  if (names_norm && norm == "none" && ttt.method != "tent" && ttt.method != "bn")
    report("ttt.parameters",
           "ttt.parameters norm, but model.norm is none; allowed: all, body, last:N, first:N, "
           "layers:[i, j] or a name pattern");
  for (const std::string& pattern : parameters)
    if (pattern.empty()) report("ttt.parameters", "ttt.parameters holds an empty pattern");
  if (*ttt.query_size > 0 && *ttt.batch_size > *ttt.query_size)
    report("ttt.batch_size", "ttt.batch_size is " + std::to_string(*ttt.batch_size) + ", more than ttt.query_size (" +
                                 std::to_string(*ttt.query_size) + ")");
  schedule_contradictions("ttt.schedule", *ttt.schedule, *ttt.lr, report);
  if (ttt.adaptive_weight.enabled && ttt.method == "entropy_diversity" &&
      ttt.adaptive_weight.max < ttt.diversity_weight)
    report("ttt.adaptive_weight",
           "ttt.adaptive_weight.max is below ttt.diversity_weight, so the weight could only fall");
  if (ttt.optimizer.nesterov && ttt.optimizer.kind == "sgd" && ttt.optimizer.momentum == 0)
    report("ttt.optimizer.nesterov", "ttt.optimizer.nesterov needs a momentum above 0");
}

}  // namespace

bool usable_name(std::string_view name) {
  if (name.empty() || name.size() > 100 || name.front() == '.' || name.front() == '-') return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  });
}

void report_contradictions(const ExperimentSpec& spec, const ReportContradiction& report) {
  dataset_contradictions(spec.dataset, report);
  fold_contradictions(spec, report);
  model_contradictions(spec, report);
  training_contradictions(spec, report);
  adaptation_contradictions(spec, report);
  group_contradictions(spec, report);
}

}  // namespace tenfold

#include "trainer/predictions.h"

#include <algorithm>

namespace tenfold {

bool SamplePredictions::finite() const { return all_finite(logits) && all_finite(tokens.nll); }

std::vector<SamplePredictions> predict(const Model& model, ModelState& state,
                                       const std::vector<std::vector<std::int64_t>>& rows, const BatchGatherer& gather,
                                       const SampleTable& table, const EvaluationPlan& plan, const ForwardMode& mode) {
  std::vector<SamplePredictions> predictions(rows.size());
  if (table.kind == SampleKind::tokens) {
    std::vector<TokenScores> scores = evaluate_tokens(model, state, rows, table, plan, mode);
    for (std::size_t k = 0; k < rows.size(); ++k) predictions[k].tokens = std::move(scores[k]);
  } else {
    std::vector<std::vector<float>> logits = evaluate_logits(model, state, rows, gather, plan, mode);
    for (std::size_t k = 0; k < rows.size(); ++k) predictions[k].logits = std::move(logits[k]);
  }
  return predictions;
}

void append(SamplePredictions& to, const SamplePredictions& from) {
  const auto add = [](auto& all, const auto& more) { all.insert(all.end(), more.begin(), more.end()); };
  add(to.logits, from.logits);
  add(to.tokens.nll, from.tokens.nll);
  add(to.tokens.confidence, from.tokens.confidence);
  add(to.tokens.hit, from.tokens.hit);
  add(to.tokens.target, from.tokens.target);
}

std::vector<EvaluationRow> metrics_of(const SamplePredictions& predictions, std::span<const std::int64_t> labels,
                                      const Dataset& dataset, std::span<const std::string> names, int held_out_class,
                                      Phase phase, std::int64_t step) {
  if (dataset.kind() == SampleKind::tokens)
    return token_metrics(predictions.tokens, names, dataset.token_bytes(), phase, step);
  const auto classes = static_cast<std::size_t>(dataset.classes());
  if (std::find(labels.begin(), labels.end(), -1) == labels.end())
    return classification_metrics({predictions.logits, labels, dataset.classes(), held_out_class}, names, phase, step);
  std::vector<float> logits;
  std::vector<std::int64_t> given;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] < 0) continue;
    const auto row = predictions.logits.begin() + static_cast<std::ptrdiff_t>(i * classes);
    logits.insert(logits.end(), row, row + static_cast<std::ptrdiff_t>(classes));
    given.push_back(labels[i]);
  }
  return classification_metrics({logits, given, dataset.classes(), held_out_class}, names, phase, step);
}

const std::vector<std::string>& training_metrics() {
  static const std::vector<std::string> names = {"accuracy", "nll"};
  return names;
}

}  // namespace tenfold

#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "experiments/records.h"
#include "trainer/classification_metrics.h"
#include "trainer/evaluation.h"

namespace tenfold {

// What a model said of a list of samples: logits of classifiers, scores of the tokens of language models.
struct SamplePredictions {
  std::vector<float> logits;  // (rows, classes): a row per sample, or per step of the samples one after another
  TokenScores tokens;
  bool finite() const;
};

// Of every member over its own list (evaluation.h). `table` is where the lists' indices point.
std::vector<SamplePredictions> predict(const Model& model, ModelState& state,
                                       const std::vector<std::vector<std::int64_t>>& rows, const BatchGatherer& gather,
                                       const SampleTable& table, const EvaluationPlan& plan,
                                       const ForwardMode& mode = {});

void append(SamplePredictions& to, const SamplePredictions& from);  // the rows of another list behind

// labels: one per row, -1 where there is none (such rows count nowhere); unused for tokens.
std::vector<EvaluationRow> metrics_of(const SamplePredictions& predictions, std::span<const std::int64_t> labels,
                                      const Dataset& dataset, std::span<const std::string> names, int held_out_class,
                                      Phase phase, std::int64_t step);

const std::vector<std::string>& training_metrics();  // of the training and the validation part: accuracy, nll

}  // namespace tenfold

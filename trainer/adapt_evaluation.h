#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "trainer/adapt_batches.h"
#include "trainer/adapt_members.h"
#include "trainer/inner_losses.h"
#include "trainer/pair_evaluation.h"
#include "trainer/predictions.h"

namespace tenfold {

// What an array of trials is measured on: the stacked held-out folds.
struct AdaptData {
  const SampleTable& samples;
  const Dataset& dataset;
  std::vector<std::string> metric_names;
};

// Measures the members of a trial array before, while and after they adapt, and reports it.
class AdaptEvaluation {
 public:
  AdaptEvaluation(const ArrayContext& context, const Model& model, AdaptData data, std::vector<AdaptMember>& members,
                  const std::vector<Lane>& lanes, at::Tensor base_lr);

  using Selection = std::function<bool(const AdaptMember&)>;
  // before: the fit on the whole held-out fold. after: the adapted model on it. With `reset: batch` both are over the
  // adaptation set, so that they are pairs: after, every batch by the parameters adapted to it. Minimal pairs are
  // measured beside either, but not after such batches, which leave no one model. A member whose predictions are not
  // finite fails.
  // give_up: asked before every batch; true: throws EvaluationGivenUp, and nothing of it is reported.
  void evaluate(const ModelState& lane_states, Phase phase, std::int64_t pass, const Selection& due,
                const std::function<bool()>& give_up = {});

  // What an online user would have been served: each sample's prediction in the first pass, before its batch's update.
  // logits (updates, lanes, R, classes), indices (updates, lanes, B), both of that pass; in a group each rank's part of
  // a batch behind the others'.
  void report_online(const at::Tensor& logits, const at::Tensor& indices, const StepTables& tables,
                     AdaptBatches& batches);

 private:
  using Lists = std::vector<std::vector<std::int64_t>>;
  struct Measured {
    std::vector<SamplePredictions> predictions;  // by list
    InnerLosses inner;
    std::vector<std::vector<PairLoss>> pairs;  // by member; empty where none are measured
  };
  Measured measure(const ModelState& lane_states, const Lists& rows, bool by_batch, std::int64_t pass,
                   const std::function<bool()>& give_up);
  void report(const Measured& measured, const Lists& rows, Phase phase, std::int64_t pass, const Selection& due);

  const ArrayContext& context_;
  const Model& model_;
  AdaptData data_;
  std::vector<AdaptMember>& members_;
  const std::vector<Lane>& lanes_;
  at::Tensor base_lr_;                 // (lanes) of the inner loop, where there is one
  std::optional<Measured> unadapted_;  // where nothing adapts, after is before
  std::optional<PairEvaluation> pairs_;
};

}  // namespace tenfold

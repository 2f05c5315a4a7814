#include "trainer/adapt_evaluation.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "trainer/lane_states.h"

namespace tenfold {

AdaptEvaluation::AdaptEvaluation(const ArrayContext& context, const Model& model, AdaptData data,
                                 std::vector<AdaptMember>& members, const std::vector<Lane>& lanes, at::Tensor base_lr)
    : context_(context),
      model_(model),
      data_(std::move(data)),
      members_(members),
      lanes_(lanes),
      base_lr_(std::move(base_lr)) {
  const ExperimentSpec& spec = members_.front().base.spec;
  if (!spec.diagnostics.minimal_pairs.empty()) pairs_.emplace(spec, data_.dataset.classes(), context_.compute.device());
}

AdaptEvaluation::Measured AdaptEvaluation::measure(const ModelState& lane_states, const Lists& rows, bool by_batch,
                                                   std::int64_t pass, const std::function<bool()>& give_up) {
  const ExperimentSpec& spec = members_.front().base.spec;
  ModelState states = by_batch ? lane_states : first_lanes(lane_states, static_cast<std::int64_t>(members_.size()));
  const auto gather = [&](const at::Tensor& indices, const at::Tensor& weight, std::int64_t length) {
    return gather_batch(data_.samples, indices, weight, length);
  };
  EvaluationPlan plan =  // a lane is one batch
      evaluation_plan(
          model_, data_.samples, members_.front().base.fold->dataset->length_bounds, spec.train.batch_size,
          by_batch ? std::min<std::int64_t>(kEvaluationBatch, spec.ttt.batch_size.value()) : kEvaluationBatch);
  Measured measured{{}, InnerLosses(members_, by_batch, pass, model_, context_.compute.device()), {}};
  // What the inner loops are recorded of is not summed over ranks: each then evaluates everything.
  plan.group = measured.inner.recorder() == nullptr ? context_.group : nullptr;
  plan.give_up = give_up;
  ForwardMode mode;
  mode.base_lr = by_batch || !base_lr_.defined() ? base_lr_ : first_lanes(base_lr_, members_.size());
  mode.inner_losses = measured.inner.recorder();
  measured.predictions = predict(model_, states, rows, gather, data_.samples, plan, mode);
  if (!pairs_ || by_batch) return measured;
  std::vector<bool> due;
  for (const auto& list : rows) due.push_back(!list.empty());
  measured.pairs = pairs_->losses(model_, states, due, mode.base_lr);
  return measured;
}

void AdaptEvaluation::evaluate(const ModelState& lane_states, Phase phase, std::int64_t pass, const Selection& due,
                               const std::function<bool()>& give_up) {
  const bool by_batch = phase == Phase::after && resets_by_batch(members_);
  const std::size_t parts = by_batch ? lanes_.size() / members_.size() : 1;  // of a member's samples
  Lists rows(members_.size() * parts);
  bool any = false;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const AdaptMember& member = members_[i / parts];
    if (!member.failure.empty() || !due(member)) continue;
    rows[i] = by_batch ? lanes_[i].rows : resets_by_batch(members_) ? member.query_rows : member.all_rows;
    any = true;
  }
  if (!any) return;
  const bool adapts =
      std::any_of(members_.begin(), members_.end(), [](const AdaptMember& member) { return member.passes > 0; });
  if (!adapts && unadapted_ && !by_batch) return report(*unadapted_, rows, phase, pass, due);
  Measured measured = measure(lane_states, rows, by_batch, pass, give_up);
  report(measured, rows, phase, pass, due);
  if (!adapts && phase == Phase::before) unadapted_ = std::move(measured);
}

void AdaptEvaluation::report(const Measured& measured, const Lists& rows, Phase phase, std::int64_t pass,
                             const Selection& due) {
  const std::size_t parts = rows.size() / members_.size();
  for (std::size_t k = 0; k < members_.size(); ++k) {
    AdaptMember& member = members_[k];
    if (!member.failure.empty() || !due(member)) continue;
    SamplePredictions predictions;
    std::vector<std::int64_t> labels, counts;
    for (std::size_t i = k * parts; i < (k + 1) * parts; ++i) {
      append(predictions, measured.predictions[i]);
      for (const std::int64_t row : rows[i]) {
        if (data_.samples.kind == SampleKind::tokens) {
          counts.push_back(data_.samples.host_counts[static_cast<std::size_t>(row)]);
          continue;
        }
        const auto given = member.base.fold->labels_at(row - member.all_rows.front());
        labels.insert(labels.end(), given.begin(), given.end());
      }
    }
    const bool has_pairs = !measured.pairs.empty();
    if (!predictions.finite() || (has_pairs && !all_finite(measured.pairs[k]))) {
      member.failure = std::string("the ") + (phase == Phase::before ? "trained" : "adapted") +
                       " model's predictions are not finite" +
                       (phase == Phase::before ? "" : " after pass " + std::to_string(member.passes_done - 1));
      member.nonfinite = phase != Phase::before;
      continue;
    }
    const auto index = static_cast<std::uint32_t>(k);
    const std::int64_t step =
        phase == Phase::before ? 0 : std::max<std::int64_t>(0, std::min(pass, member.passes_done - 1));
    const auto metrics = metrics_of(predictions, labels, data_.dataset, data_.metric_names,
                                    member.base.fold->split.held_out_class, phase, step);
    context_.reporter.rows(index, std::span<const EvaluationRow>(metrics));
    if (!counts.empty()) {
      const auto positions = position_losses(predictions.tokens, counts, phase, step);
      context_.reporter.rows(index, std::span<const PositionLossRow>(positions));
    }
    measured.inner.report(context_.reporter, k, phase, step);
    if (has_pairs) pairs_->report(context_.reporter, index, measured.pairs[k], phase, step);
  }
}

void AdaptEvaluation::report_online(const at::Tensor& device_logits, const at::Tensor& device_indices,
                                    const StepTables& tables, AdaptBatches& batches) {
  const at::Tensor logits = device_logits.cpu(), indices = device_indices.cpu();
  const std::int64_t ranks = context_.share().size;
  const std::int64_t lanes = indices.size(1), batch = indices.size(2), rows = logits.size(2);
  const std::int64_t classes = logits.size(3);
  const bool by_step = data_.dataset.label_kind() == LabelKind::step;
  for (std::size_t k = 0; k < members_.size(); ++k) {
    const AdaptMember& member = members_[k];
    SamplePredictions predictions;
    std::vector<std::int64_t> labels;
    for (std::int64_t i = 0; i < lanes; ++i) {
      if (lanes_[static_cast<std::size_t>(i)].member != static_cast<std::int32_t>(k)) continue;
      for (std::int64_t t = 0; t < batches.updates(); ++t) {
        const std::int64_t length = by_step ? batches.padded_length(0, t) : 1;
        for (std::int64_t place = 0; place < batch; ++place) {
          const std::int64_t part = batch / ranks, rank = place / part, b = place % part;
          if (b >= tables.count_of_rank(t, i, rank)) continue;
          const std::int64_t sample =
              indices.const_data_ptr<std::int64_t>()[(t * lanes + i) * batch + place] - member.all_rows.front();
          const std::span<const std::int64_t> given = member.base.fold->labels_at(sample);
          const float* row =
              logits.const_data_ptr<float>() + ((t * lanes + i) * rows + rank * (rows / ranks) + b * length) * classes;
          predictions.logits.insert(predictions.logits.end(), row,
                                    row + static_cast<std::int64_t>(given.size()) * classes);
          labels.insert(labels.end(), given.begin(), given.end());
        }
      }
    }
    if (labels.empty() || !predictions.finite()) continue;  // what the pass's row will tell
    const auto metrics = metrics_of(predictions, labels, data_.dataset, data_.metric_names,
                                    member.base.fold->split.held_out_class, Phase::online, 0);
    context_.reporter.rows(static_cast<std::uint32_t>(k), std::span<const EvaluationRow>(metrics));
  }
}

}  // namespace tenfold

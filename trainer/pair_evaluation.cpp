#include "trainer/pair_evaluation.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "datasets/length_buckets.h"
#include "experiments/metric.h"

namespace tenfold {
namespace {

MinimalPairs pairs_of(const ExperimentSpec& spec, int vocabulary) {
  std::optional<Tokenizer> tokenizer;
  if (spec.dataset.kind == "text") tokenizer.emplace(spec.dataset.tokenizer);
  return read_minimal_pairs(spec.diagnostics.minimal_pairs, tokenizer ? &*tokenizer : nullptr, vocabulary);
}

// Token t is predicted at step t - 1; steps before those that are scored are context.
VariantLoss variant_loss(const float* nll, std::int64_t steps, std::int64_t scored_from) {
  VariantLoss loss;
  for (std::int64_t t = scored_from - 1; t < steps; ++t) {
    loss.sum += nll[t];
    loss.weight += 1;
  }
  return loss;
}

}  // namespace

PairEvaluation::PairEvaluation(const ExperimentSpec& spec, int vocabulary, const at::Device& device)
    : pairs_(pairs_of(spec, vocabulary)), mixing_batch_(spec.train.batch_size) {
  table_.kind = SampleKind::tokens;
  std::vector<std::int32_t> tokens;
  std::vector<std::int64_t> starts;
  for (const MinimalPair& pair : pairs_.items)
    for (const std::vector<std::int32_t>* variant : {&pair.good, &pair.bad}) {
      starts.push_back(static_cast<std::int64_t>(tokens.size()));
      table_.host_counts.push_back(static_cast<std::int64_t>(variant->size()) - 1);
      tokens.insert(tokens.end(), variant->begin(), variant->end());
    }
  table_.values = at::tensor(tokens, at::kInt).to(device);
  table_.starts = at::tensor(starts, at::kLong).to(device);
  table_.counts = at::tensor(table_.host_counts, at::kLong).to(device);
  bounds_ = length_bounds(table_.host_counts, spec.dataset.length_buckets);
}

std::vector<std::vector<PairLoss>> PairEvaluation::losses(const Model& model, ModelState& state,
                                                          const std::vector<bool>& due,
                                                          const at::Tensor& base_lr) const {
  std::vector<std::vector<std::int64_t>> rows(due.size());
  for (std::size_t k = 0; k < due.size(); ++k)
    for (std::int64_t i = 0; due[k] && i < table_.size(); ++i) rows[k].push_back(i);
  ForwardMode mode;
  mode.base_lr = base_lr;
  const std::vector<TokenScores> scores =
      evaluate_tokens(model, state, rows, table_, evaluation_plan(model, table_, bounds_, mixing_batch_), mode);
  std::vector<std::vector<PairLoss>> losses(due.size());
  for (std::size_t k = 0; k < due.size(); ++k) {
    if (!due[k]) continue;
    const float* nll = scores[k].nll.data();
    for (std::size_t i = 0; i < pairs_.items.size(); ++i) {
      const std::int64_t good = table_.host_counts[2 * i], bad = table_.host_counts[2 * i + 1];
      const std::int64_t from = pairs_.items[i].scored_from;
      losses[k].push_back({variant_loss(nll, good, from), variant_loss(nll + good, bad, from)});
      nll += good + bad;
    }
  }
  return losses;
}

void PairEvaluation::report(Reporter& reporter, std::uint32_t member, const std::vector<PairLoss>& losses, Phase phase,
                            std::int64_t step) const {
  const PairScores scores = score_tasks(pairs_, losses);
  EvaluationRow overall{step, scores.overall, 0, 0, metric_index("minimal_pairs"), phase, {}};
  std::vector<PairScoreRow> rows;
  std::int64_t ties = 0;
  for (const PairScore& task : scores.tasks) {
    PairScoreRow row{step,      task.score,     task.low,   task.high, task.hits,
                     task.ties, task.undefined, task.total, phase,     {}};
    std::copy_n(task.task.data(), std::min(task.task.size(), sizeof row.task - 1), row.task);
    rows.push_back(row);
    overall.hits += task.hits;
    overall.total += task.total;
    ties += task.ties;
  }
  overall.hits = ties % 2 == 0 ? overall.hits + ties / 2 : -1;
  reporter.rows(member, std::span<const EvaluationRow>(&overall, 1));
  reporter.rows(member, std::span<const PairScoreRow>(rows));
}

bool all_finite(std::span<const PairLoss> losses) {
  return std::all_of(losses.begin(), losses.end(),
                     [](const PairLoss& loss) { return std::isfinite(loss.good.sum) && std::isfinite(loss.bad.sum); });
}

}  // namespace tenfold

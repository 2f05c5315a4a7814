#include "trainer/token_metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "experiments/error.h"
#include "experiments/metric.h"
#include "trainer/calibration.h"

namespace tenfold {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

double calibration_error(const TokenScores& scores) {
  CalibrationBins bins;
  for (std::size_t i = 0; i < scores.nll.size(); ++i) bins.add(scores.confidence[i], scores.hit[i] != 0);
  return bins.sum() / static_cast<double>(scores.nll.size());
}

double bytes_of(const TokenScores& scores, std::span<const std::int32_t> token_bytes) {
  if (token_bytes.empty()) return kNaN;
  double bytes = 0;
  for (const std::int64_t token : scores.target) bytes += token_bytes[static_cast<std::size_t>(token)];
  return bytes;
}

}  // namespace

std::vector<EvaluationRow> token_metrics(const TokenScores& scores, std::span<const std::string> names,
                                         std::span<const std::int32_t> token_bytes, Phase phase, std::int64_t step) {
  const auto total = static_cast<std::int64_t>(scores.nll.size());
  const auto n = static_cast<double>(total);
  double sum = 0;
  for (const float nll : scores.nll) sum += nll;
  const std::int64_t hits = std::count(scores.hit.begin(), scores.hit.end(), std::uint8_t{1});
  if (!std::isfinite(sum) || total == 0) sum = kNaN;
  std::vector<EvaluationRow> rows;
  for (const std::string& name : names) {
    EvaluationRow row{step, kNaN, -1, total, metric_index(name), phase, {}};
    if (name == "accuracy") {
      row.value = total > 0 ? static_cast<double>(hits) / n : kNaN;
      row.hits = hits;
    } else if (name == "nll") {
      row.value = sum / n;
    } else if (name == "perplexity") {
      row.value = std::exp(sum / n);
    } else if (name == "bits_per_byte") {
      const double bytes = bytes_of(scores, token_bytes);
      row.value = bytes > 0 ? sum / std::numbers::ln2 / bytes : kNaN;
    } else if (name == "ece") {
      row.value = std::isfinite(sum) ? calibration_error(scores) : kNaN;
    } else {
      throw Error(ErrorKind::config, "metrics: '" + name +
                                         "' is not one of a language model; allowed are accuracy, nll, perplexity, "
                                         "bits_per_byte, ece");
    }
    rows.push_back(row);
  }
  return rows;
}

std::vector<PositionLossRow> position_losses(const TokenScores& scores, std::span<const std::int64_t> counts,
                                             Phase phase, std::int64_t step) {
  const std::int64_t longest = counts.empty() ? 0 : *std::max_element(counts.begin(), counts.end());
  std::vector<PositionLossRow> rows;
  for (std::int64_t position = 0; position < longest; ++position) rows.push_back({step, position, 0, 0, 0, phase, {}});
  std::size_t at = 0;
  for (const std::int64_t count : counts)
    for (std::int64_t position = 0; position < count; ++position) {
      PositionLossRow& row = rows[static_cast<std::size_t>(position)];
      row.loss += scores.nll[at++];
      row.weight += 1;
    }
  for (PositionLossRow& row : rows) row.loss /= row.weight;
  return rows;
}

}  // namespace tenfold

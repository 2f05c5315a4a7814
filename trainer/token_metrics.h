#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "experiments/records.h"

// Metrics of a language model from the scores of each predicted token, in double precision on the host.
namespace tenfold {

struct TokenScores {
  std::vector<float> nll;            // -log p(target), nats
  std::vector<float> confidence;     // max p
  std::vector<std::uint8_t> hit;     // whether the likeliest token is the target
  std::vector<std::int64_t> target;  // the token that came
};

// One row per requested metric: accuracy, nll (mean over tokens), perplexity = exp(nll), bits_per_byte = sum of nll /
// ln 2 over the bytes of the targets (token_bytes by token; NaN where they are not known), ece as of classifiers. NaN
// where a score is not finite. Throws Error(config) for another metric.
std::vector<EvaluationRow> token_metrics(const TokenScores& scores, std::span<const std::string> names,
                                         std::span<const std::int32_t> token_bytes, Phase phase, std::int64_t step);

// Mean nll by position in the sample; counts: predicted tokens of each sample, in the scores' order.
std::vector<PositionLossRow> position_losses(const TokenScores& scores, std::span<const std::int64_t> counts,
                                             Phase phase, std::int64_t step);

}  // namespace tenfold

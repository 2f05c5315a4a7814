#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "datasets/tokenizer.h"

// Minimal pairs: two variants of a text or an utterance that differ in what makes one of them right (sBLIMP, sWUGGY,
// StoryCloze). A model that has learned the difference finds the right one likelier.
namespace tenfold {

inline constexpr std::size_t kMostTaskBytes = 62;

struct MinimalPair {
  std::string task;  // the score is told for each; at most kMostTaskBytes, empty where the file names none
  std::vector<std::int32_t> good, bad;
  std::int64_t scored_from = 1;  // first token whose loss counts, from 0; the first of all has no loss
  std::int64_t line = 0;         // in the file, from 1
};

// 0: no bound
struct MinimalPairLimits {
  std::int64_t max_items = 0;
  std::int64_t max_tokens = 0;  // of a variant
};

struct MinimalPairs {
  std::vector<MinimalPair> items;
  MinimalPairLimits limits;        // to be shown beside totals:
  std::int64_t left_out_long = 0;  // a variant of theirs has more than max_tokens
  std::int64_t left_out_more = 0;  // they came after max_items others
};

// Reads a file with one JSON object a line: {"good": "...", "bad": "..."} of texts, or {"good_tokens": [...],
// "bad_tokens": [...]}, with "task" and "scored_from" if need be; other keys are not looked at, blank lines passed
// over. Pairs with a variant of more than max_tokens are left out whole: cut, both could be the same. Texts become
// tokens by `tokenizer` (null: the model knows no texts, and texts are errors). Throws Error(data) with file and line:
// not JSON, missing or of the wrong type, not UTF-8, tokens outside [0, vocabulary), nothing to score.
MinimalPairs read_minimal_pairs(const std::filesystem::path& file, Tokenizer* tokenizer, int vocabulary,
                                const MinimalPairLimits& limits = {});

// Negative log-likelihood of a variant: sum of weight x NLL over what counts, and the sum of those weights (the number
// of tokens where each weighs 1).
struct VariantLoss {
  double sum = 0, weight = 0;
  double mean() const { return sum / weight; }
};
struct PairLoss {
  VariantLoss good, bad;
};

struct PairScore {
  std::string task;
  std::int64_t hits = 0, ties = 0, total = 0;  // hits: the good variant's mean is lower
  std::int64_t undefined = 0;                  // among total: a loss is not a number; no hit
  double score = 0;                            // (hits + ties / 2) / total
  double low = 0, high = 1;                    // its 95 % interval (Wilson)
};

// Of all losses together. Throws Error(internal) where there are none.
PairScore score_pairs(std::span<const PairLoss> losses);

struct PairScores {
  std::vector<PairScore> tasks;  // sorted by name
  double overall;                // the mean of the tasks' scores
};
// losses[i] is of pairs.items[i].
PairScores score_tasks(const MinimalPairs& pairs, std::span<const PairLoss> losses);

}  // namespace tenfold

#pragma once

#include <cstdint>
#include <type_traits>

#include "experiments/records.h"

namespace tenfold {

// A row as those of records.h: how often a language model finds the right variant of the minimal pairs of one task
// likelier (datasets/minimal_pairs.h).
struct PairScoreRow {
  std::int64_t step;  // as EvaluationRow::step
  double score;       // (hits + ties / 2) / total
  double low, high;   // its 95 % interval (Wilson)
  std::int64_t hits, ties;
  std::int64_t undefined;  // a loss is not a number; no hit
  std::int64_t total;
  Phase phase;
  char task[63];  // UTF-8, ended by a zero; empty where the file names none
};
static_assert(std::is_trivially_copyable_v<PairScoreRow> && sizeof(PairScoreRow) == 128);

}  // namespace tenfold

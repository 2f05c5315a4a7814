#pragma once

#include <cstdint>
#include <string>
#include <type_traits>

// The rows that a running trial produces, as plain structs: trainers pack them into frames, the store
// binds them to columns of the same names. NaN means "not applicable" and is stored as NULL.
namespace tenfold {

enum class Phase : std::uint8_t { train, validation, before, online, after };
enum class TrialStatus : std::uint8_t { pending, running, done, failed, stopped };
const char* to_string(Phase phase);
const char* to_string(TrialStatus status);

// One optimizer update of a fit. Sums and means are over the real samples of the batch.
struct TrainStepRow {
  std::int64_t step;  // updates so far, from 1
  std::int64_t epoch;  // from 0
  double loss;
  double lr;          // the rate that this update applied
  double grad_norm;   // before clipping
  double wall_s;      // the update's share of its array's wall time
};

// One pass of adaptation over the adaptation set; means over its batches weighted by samples. Each batch is
// measured before its update, so step 0 begins at the unadapted model.
struct TttStepRow {
  std::int64_t step;  // the pass, from 0
  double total;
  double entropy;
  double diversity;
  double diversity_weight;
  double class_entropy;         // h = H(pbar)/log C of the whole pass
  std::int64_t classes_predicted;
  double max_class_share;
  double grad_norm;             // mean over the updates, before clipping
  double lr;                    // the rate that the pass applied
  double wall_s;
};

// One metric on one part of the data; metric is an index into metrics() (metric.h).
struct EvaluationRow {
  std::int64_t step;   // train, validation: updates done; before: 0; online, after: the last pass done, from 0
  double value;
  std::int64_t hits;   // -1: the metric does not count
  std::int64_t total;  // samples behind the value
  std::int32_t metric;
  Phase phase;
  std::uint8_t padding[3];
};

static_assert(std::is_trivially_copyable_v<TrainStepRow> && sizeof(TrainStepRow) == 48);
static_assert(std::is_trivially_copyable_v<TttStepRow> && sizeof(TttStepRow) == 88);
static_assert(std::is_trivially_copyable_v<EvaluationRow> && sizeof(EvaluationRow) == 40);

}  // namespace tenfold

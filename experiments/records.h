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
  std::int64_t step;   // updates so far, from 1
  std::int64_t epoch;  // from 0
  double loss;
  double lr;         // the rate that this update applied
  double grad_norm;  // before clipping
  double wall_s;     // the update's share of its array's wall time
};

// One pass of adaptation over the adaptation set; means over its batches weighted by samples. Each batch is
// measured before its update, so step 0 begins at the unadapted model.
struct TttStepRow {
  std::int64_t step;  // the pass, from 0
  double total;
  double entropy;
  double diversity;
  double diversity_weight;
  double class_entropy;  // h = H(pbar)/log C of the whole pass
  std::int64_t classes_predicted;
  double max_class_share;
  double grad_norm;  // mean over the updates, before clipping
  double lr;         // the rate that the pass applied
  double wall_s;
};

// One metric on one part of the data; metric is an index into metrics() (metric.h).
struct EvaluationRow {
  std::int64_t step;  // train, validation: updates done; before: 0; online, after: the last pass done, from 0
  double value;
  std::int64_t hits;   // -1: the metric does not count
  std::int64_t total;  // samples behind the value
  std::int32_t metric;
  Phase phase;
  std::uint8_t padding[3];
};

// The inner losses of one TTT layer at one token position, means over the streams, heads and features that were seen:
// loss(W; x) = mean_f (ln(model(k; W)) - Y)^2 by the layer's initial weights W_0, by the weights before the token's
// update and by those after it (Sun et al. 2024, figure 5).
struct InnerLossRow {
  std::int64_t step;  // as EvaluationRow::step
  std::int64_t position;
  double l0, lprev, lafter;
  std::int32_t layer;  // index of the model's layer
  Phase phase;
  std::uint8_t padding[3];
};

// The gate of one TTT layer: tanh(alpha) over its channels.
struct GateRow {
  std::int64_t step;  // updates done
  double mean_tanh, min_tanh, max_tanh;
  std::int32_t layer;
  std::int32_t padding;
};

// Cross entropy by position in the sample; codebook 0 for models of one token stream.
struct PositionLossRow {
  std::int64_t step;  // as EvaluationRow::step
  std::int64_t position;
  double loss;    // mean over samples, nats
  double weight;  // samples behind it
  std::int32_t codebook;
  Phase phase;
  std::uint8_t padding[3];
};

// What one update did to one group of parameters.
struct GroupStepRow {
  std::int64_t step;   // updates so far, from 1
  double grad_norm;    // before clipping
  double update_norm;  // of the change of the parameters
  std::int32_t group;  // ParameterGroup
  std::int32_t padding;
};

// Parameters with learning rates of their own: train.group_lr.
enum class ParameterGroup : std::int32_t { base, ttt, gate, lora };
const char* to_string(ParameterGroup group);

static_assert(std::is_trivially_copyable_v<TrainStepRow> && sizeof(TrainStepRow) == 48);
static_assert(std::is_trivially_copyable_v<TttStepRow> && sizeof(TttStepRow) == 88);
static_assert(std::is_trivially_copyable_v<EvaluationRow> && sizeof(EvaluationRow) == 40);
static_assert(std::is_trivially_copyable_v<InnerLossRow> && sizeof(InnerLossRow) == 48);
static_assert(std::is_trivially_copyable_v<GateRow> && sizeof(GateRow) == 40);
static_assert(std::is_trivially_copyable_v<PositionLossRow> && sizeof(PositionLossRow) == 40);
static_assert(std::is_trivially_copyable_v<GroupStepRow> && sizeof(GroupStepRow) == 32);

}  // namespace tenfold

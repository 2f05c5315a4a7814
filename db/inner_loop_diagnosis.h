#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "db/inner_loop_statistics.h"

// Is the inner loop of each TTT layer learning, and if not, what is likely wrong and what to change? From loss curves
// and whatever else is known of a layer; what is not known (NaN) is not judged, and the report says so.
namespace tenfold {

// What is known of one layer beside its curves.
struct InnerLoopLayer {
  static constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  int layer = 0;
  std::string kind;  // linear, mlp, ttt_rnn
  InnerLossCurves curves;
  bool weights_found = true;     // the checkpoint holds its parameters
  bool reset_each_step = false;  // a TTT-RNN whose fast weights start anew at each time step: lprev is l0
  bool carries = false;          // it is made to carry its state between calls
  std::int64_t mini_batch_size = 1;
  // Of tanh(alpha) over channels. The mean of |tanh| lies between |mean| and the larger of |min| and |max|, and is
  // known where the signs are one. No gate: NaN.
  double gate_mean = kUnknown, gate_min = kUnknown, gate_max = kUnknown;
  double gate_mean_abs = kUnknown;
  double gate_initial = kUnknown;                             // tanh of alpha before training
  bool trained = false;                                       // updates were done since
  double movement_start = kUnknown, movement_end = kUnknown;  // |W_t - W_0| after the first mini-batch and at the end
  double carry_gap = kUnknown;                                // |W entering a call - W after the call before| / |W_0|
  double kl_without = kUnknown;  // of the logits with the layer and with it bypassed, nats per position
};

// The layers' common side.
struct InnerLoopModel {
  static constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  std::string kind;
  int layers = 0;                  // of the model; 0: unknown
  std::int64_t stream_length = 0;  // positions of the longest stream; 0: unknown
  std::int64_t max_positions = 0;  // that could be recorded; 0: unknown
  double base_lr = kUnknown;       // model.ttt.base_lr
  double gate_init = kUnknown;     // model.ttt.gate_init, before the tanh
  double inner_clip_norm = kUnknown;
  double nll = kUnknown, nll_without_ttt = kUnknown, kl_without_ttt = kUnknown;  // nats per position
  std::vector<double> position_loss;                                             // the model's own, by position
  std::vector<double> codebook_shares;                                           // of the weighted loss
  struct Tokens {                                                                // the targets of one kind of text
    std::string name;
    double share = 0, loss_share = 0;  // of the targets, of the sum of their losses
    double loss = 0;                   // mean, nats
  };
  std::vector<Tokens> token_classes;
  std::vector<std::string> missing;  // TTT parameters that a checkpoint does not hold
};

enum class Severity { note, warning, problem };
const char* to_string(Severity severity);

struct Diagnosis {
  std::string name;  // overlap, step_too_large, state_harms, explosion, ...
  Severity severity = Severity::problem;
  std::string finding;  // with its numbers and threshold
  std::vector<std::string> causes;
  std::string yaml;  // what to paste into the experiment file; empty: nothing there helps
};

struct LayerDiagnosis {
  InnerLoopStatistics statistics;
  std::vector<Diagnosis> found;
};

LayerDiagnosis diagnose_layer(const InnerLoopLayer& layer, const InnerLoopModel& model);

// Thresholds, as the report names them.
inline constexpr double kOverlapShare = 1e-3;  // of mean l0
inline constexpr double kViolationShare = 1.0 / 3;
inline constexpr double kExplosion = 10;  // of mean l0
inline constexpr double kHighLoss = 1;
inline constexpr double kLearnsWell =
    0.05;  // of mean l0, taken off by the inner loop: then a high loss is none to warn of
inline constexpr double kGateShut = 1e-3;
inline constexpr double kGateUnmoved = 1e-6;
inline constexpr double kCarryGap = 1e-6;
inline constexpr double kInvisibleGain = 1e-3;  // of the model's loss

}  // namespace tenfold

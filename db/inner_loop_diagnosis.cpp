#include "db/inner_loop_diagnosis.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

namespace tenfold {
namespace {

// Four digits, as people read them.
std::string number(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

std::string percent(double share) { return number(100 * share) + " %"; }

std::string slope_text(const BlockSlope& slope) {
  return number(slope.value) + " +- " + number(slope.standard_error) + " per position";
}

std::string rate_sweep(double base_lr, std::initializer_list<double> factors) {
  if (std::isnan(base_lr)) return "sweep: {model.ttt.base_lr: [0.01, 0.03, 0.1, 0.3, 1.0]}";
  std::string list;
  for (const double factor : factors) list += (list.empty() ? "" : ", ") + number(base_lr * factor);
  return "sweep: {model.ttt.base_lr: [" + list + "]}";
}

// Judges one layer; each function adds what it finds.
class Judge {
 public:
  Judge(const InnerLoopLayer& layer, const InnerLoopModel& model, LayerDiagnosis& result)
      : layer_(layer), model_(model), s_(result.statistics), found_(result.found) {}

  void judge() {
    if (!layer_.weights_found) return no_weights();
    gate();
    state();
    if (s_.positions == 0) return no_data();
    if (s_.not_finite == s_.positions) return explosion();
    short_stream();
    explosion();
    overlap();
    ordering();
    if (!layer_.reset_each_step) context();
    invisible();
  }

 private:
  void add(const char* name, Severity severity, std::string finding, std::vector<std::string> causes,
           std::string yaml = "") {
    found_.push_back({name, severity, std::move(finding), std::move(causes), std::move(yaml)});
  }

  void no_weights() {
    std::string names;
    for (std::size_t i = 0; i < model_.missing.size() && i < 4; ++i) names += (i == 0 ? "" : ", ") + model_.missing[i];
    if (model_.missing.size() > 4) names += " and " + std::to_string(model_.missing.size() - 4) + " more";
    add("no_ttt_weights", Severity::problem,
        "The checkpoint holds no weights of this TTT layer" + (names.empty() ? "" : " (missing: " + names + ")") +
            "; what ran is an untrained layer or none.",
        {"the checkpoint is of the base model, saved before TTT layers were added",
         "only other parameters (LoRA, the gate) were saved", "the parameters have other names than this model's"},
        "model: {checkpoint: PATH_OF_A_CHECKPOINT_WITH_TTT_WEIGHTS}");
  }

  void no_data() {
    add("no_data", Severity::problem,
        "No loss of this layer was recorded (0 positions" +
            (model_.max_positions > 0 ? " of " + std::to_string(model_.max_positions) : std::string()) + ").",
        {"recording is off", "the layer is not among the recorded ones", "no stream reached the layer"},
        "diagnostics: {inner_loss: {every: 1, layers: all, max_positions: " +
            std::to_string(model_.max_positions > 0 ? model_.max_positions : 2048) + "}}");
  }

  void gate() {
    double mean_abs = layer_.gate_mean_abs;
    double most = std::max(std::abs(layer_.gate_min), std::abs(layer_.gate_max));
    if (std::isnan(mean_abs) && !std::isnan(layer_.gate_mean)) {
      const bool one_sign = layer_.gate_min >= 0 || layer_.gate_max <= 0;
      mean_abs = one_sign ? std::abs(layer_.gate_mean) : most;  // with both signs at most this
    }
    if (std::isnan(most)) most = mean_abs;
    if (std::isnan(mean_abs)) return;
    if (mean_abs < kGateShut)
      add("gate_shut", Severity::problem,
          "Mean |tanh(alpha)| is at most " + number(mean_abs) + " (threshold " + number(kGateShut) +
              "): the layer is bypassed.",
          {"the gate began too near to 0 to be learned", "its learning rate is too small",
           "training pushed it shut because the layer's output harmed"},
          "model: {ttt: {gate_init: 0.1}}\ntrain: {group_lr: {gate: 1e-2}}");
    if (!layer_.trained || std::isnan(layer_.gate_initial)) return;
    const double moved = std::isnan(layer_.gate_min) ? std::abs(mean_abs - std::abs(layer_.gate_initial))
                                                     : std::max(std::abs(layer_.gate_min - layer_.gate_initial),
                                                                std::abs(layer_.gate_max - layer_.gate_initial));
    if (moved <= kGateUnmoved)
      add("gate_unmoved", Severity::warning,
          "After training tanh(alpha) equals its initial value " + number(layer_.gate_initial) +
              " in every channel (largest change " + number(moved) + ", threshold " + number(kGateUnmoved) + ").",
          {"the gate is not among the trained parameters", "its learning rate is 0", "no gradient reaches it"},
          "train: {parameters: [all], group_lr: {gate: 1e-2}}");
  }

  void state() {
    if (!layer_.carries && !layer_.reset_each_step && layer_.carry_gap > kCarryGap)
      add("state_not_carried", Severity::warning,
          "W entering a call differs from W after the call before by " + number(layer_.carry_gap) +
              " of |W_0| (threshold " + number(kCarryGap) +
              "): the model is not made to carry its state (model.ttt.persistent), so a stream that is read in several "
              "calls begins again at W_0 in each; the curves are of one call.",
          {"persistent is off"}, "model: {ttt: {persistent: true}}");
    else if (layer_.carries && layer_.carry_gap > kCarryGap)
      add("state_not_carried", Severity::problem,
          "W entering a call differs from W after the call before by " + number(layer_.carry_gap) +
              " of |W_0| (threshold " + number(kCarryGap) + "): the state is not carried over.",
          {"each call starts at the initial weights", "persistent is off",
           "the running state is overwritten between calls"},
          "model: {ttt: {persistent: true}}");
    else if (!layer_.reset_each_step && s_.previous_is_initial && s_.step_improvement > kOverlapShare * s_.l0.mean)
      add("state_not_carried", Severity::problem,
          "lprev equals l0 at every position after the first mini-batch, though each update lowers the loss (mean "
          "lprev - "
          "lafter " +
              number(s_.step_improvement) + "): every mini-batch starts at W_0.",
          {"the fast weights are reset between mini-batches", "the updated weights are never written back"},
          "model: {ttt: {persistent: true}}");
  }

  void short_stream() {
    const std::int64_t length = model_.stream_length > 0 ? model_.stream_length : s_.last_position + 1;
    if (layer_.reset_each_step || length >= layer_.mini_batch_size) return;
    add("stream_shorter_than_mini_batch", Severity::problem,
        "The stream has " + std::to_string(length) + " positions and a mini-batch " +
            std::to_string(layer_.mini_batch_size) +
            " tokens: no token is ever seen by updated weights, so lprev is l0 throughout.",
        {"mini-batches are longer than the samples"},
        "model: {ttt: {mini_batch_size: " + std::to_string(std::max<std::int64_t>(1, length / 4)) + "}}");
  }

  void explosion() {
    const std::string rates = rate_sweep(model_.base_lr, {0.03, 0.1, 0.3});
    const std::string clip = std::isnan(model_.inner_clip_norm) ? "model: {ttt: {inner_clip_norm: 1.0}}\n" : "";
    const std::vector<std::string> causes = {"the inner learning rate is too high, so that updates diverge",
                                             "inner gradients are not clipped",
                                             "targets of a large scale: the inputs are not normalised"};
    if (s_.not_finite > 0)
      return add("explosion", Severity::problem,
                 std::to_string(s_.not_finite) + " of " + std::to_string(s_.positions) +
                     " positions hold a loss that is not a finite number: the inner loop diverges.",
                 causes, clip + rates);
    if (s_.l0.mean > kExplosion)
      add("explosion", Severity::problem,
          "Mean l0 is " + number(s_.l0.mean) + " (threshold " + number(kExplosion) + ").", causes, clip + rates);
    else if (s_.l0.mean > kHighLoss && !learns_well())
      add("high_loss", Severity::warning,
          "Mean l0 is " + number(s_.l0.mean) + ", between " + number(kHighLoss) + " and " + number(kExplosion) +
              ", and the inner loop does not bring it down as it should (mean(l0 - lafter) is " +
              percent(s_.cumulative_benefit / s_.l0.mean) + " of it, wrong ordering at " +
              percent(s_.violation_share()) + "): high, not yet diverging.",
          causes, clip + rates);
  }

  // A loss above 1 is what targets of such a scale begin with; it is no sign of divergence where updates lower it.
  bool learns_well() const {
    return s_.cumulative_benefit > kLearnsWell * s_.l0.mean && s_.violation_share() <= kViolationShare &&
           !(s_.lprev_trend.slope.rises() && !s_.l0_trend.slope.rises());
  }

  void overlap() {
    const double threshold = kOverlapShare * s_.l0.mean;
    if (!(s_.step_improvement < threshold && s_.cumulative_benefit < threshold)) return;
    if (s_.step_improvement < -threshold || s_.cumulative_benefit < -threshold) return;  // apart, in the wrong order
    std::vector<std::string> causes = {"the inner learning rate is too small",
                                       "the inner gradient is broken or clipped to nothing", "the gate is shut"};
    if (layer_.movement_end == 0)
      causes.insert(causes.begin(), "the fast weights did not move at all (|W_t - W_0| = 0)");
    add("overlap", Severity::problem,
        "The curves lie on each other: mean(lprev - lafter) is " + number(s_.step_improvement) +
            " and mean(l0 - lafter) " + number(s_.cumulative_benefit) + ", both below " + number(threshold) +
            " (0.1 % of mean l0).",
        causes, rate_sweep(model_.base_lr > 0 ? model_.base_lr : InnerLoopModel::kUnknown, {3, 10, 30}));
  }

  void ordering() {
    const double share = s_.violation_share();
    if (!(share > kViolationShare)) return;
    const double judged = static_cast<double>(s_.positions - s_.not_finite);
    const double after = static_cast<double>(s_.after_above_prev) / judged;
    const double prev = static_cast<double>(s_.prev_above_l0) / judged;
    const std::string counts =
        " At " + percent(share) + " of the positions (threshold a third) l0 >= lprev >= lafter fails; ";
    if (after >= prev || after > kViolationShare)
      add("step_too_large", Severity::problem,
          "The update raises the loss of the tokens that it was made from." + counts + "lafter > lprev at " +
              percent(after) + ".",
          {"the inner step is too large: it jumps over the minimum", "the inner gradient has the wrong sign or scale"},
          rate_sweep(model_.base_lr, {0.1, 0.3}));
    if (prev > after || prev > kViolationShare)
      add("state_harms", Severity::problem,
          "The accumulated state does worse than the initial weights." + counts + "lprev > l0 at " + percent(prev) +
              ".",
          {"what was learned from earlier tokens does not carry over to later ones",
           "updates accumulate and drift: the rate is too high for streams of this length",
           "streams that have nothing to do with each other share one state"},
          rate_sweep(model_.base_lr, {0.1, 0.3}) + "\nmodel: {ttt: {persistent: false}}");
  }

  void context() {
    const std::vector<std::string> causes = {"the projections to keys and values keep nothing that repeats in a stream",
                                             "the initial weights are as good as what a stream can teach",
                                             "the inner rate is too small to build anything up"};
    const std::string yaml = rate_sweep(model_.base_lr, {0.3, 3, 10});
    const BlockSlope& gap = s_.context_trend.slope;
    if (gap.rises())
      return add("no_use_of_context", Severity::problem,
                 "lprev - l0 rises along the stream by " + slope_text(gap) +
                     ", more than two standard errors: the longer the context, the less it helps.",
                 causes, yaml);
    if (s_.lprev_trend.slope.rises() && !s_.l0_trend.slope.rises())
      return add("no_use_of_context", Severity::problem,
                 "lprev rises by " + slope_text(s_.lprev_trend.slope) + " while l0 does not (" +
                     slope_text(s_.l0_trend.slope) + "): it is not the data that get harder.",
                 causes, yaml);
    const bool learns = s_.step_improvement > kOverlapShare * s_.l0.mean;
    if (learns && !s_.previous_is_initial && std::abs(s_.context_benefit) < kOverlapShare * s_.l0.mean)
      add("no_use_of_context", Severity::problem,
          "Each update lowers its own tokens' loss (mean lprev - lafter " + number(s_.step_improvement) +
              "), but later tokens gain nothing from it: mean(l0 - lprev) is " + number(s_.context_benefit) +
              ", within 0.1 % of mean l0.",
          causes, yaml);
  }

  void invisible() {
    if (!(s_.cumulative_benefit > kOverlapShare * s_.l0.mean) || s_.not_finite > 0) return;
    std::string finding = "The inner loss improves (mean l0 - lafter " + number(s_.cumulative_benefit) + "), but ";
    if (!std::isnan(model_.nll) && !std::isnan(model_.nll_without_ttt)) {
      const double gain = model_.nll_without_ttt - model_.nll;
      if (gain > kInvisibleGain * std::abs(model_.nll_without_ttt)) return;
      finding += "the model's own loss is " + number(model_.nll) + " with the TTT layers and " +
                 number(model_.nll_without_ttt) + " with them bypassed.";
    } else if (model_.position_loss.size() >= kFewestPositionsOfASlope) {
      std::vector<double> x(model_.position_loss.size());
      std::iota(x.begin(), x.end(), 0.0);
      const BlockSlope slope = block_slope(x, model_.position_loss);
      if (slope.falls()) return;
      finding += "the model's own loss does not fall along the stream (" + slope_text(slope) + ").";
    } else {
      return;
    }
    if (!std::isnan(layer_.kl_without))
      finding += " Bypassing this layer changes the logits by a KL of " + number(layer_.kl_without) + " nats.";
    else if (!std::isnan(model_.kl_without_ttt))
      finding += " Bypassing all TTT layers changes the logits by a KL of " + number(model_.kl_without_ttt) + " nats.";
    if (!model_.codebook_shares.empty())
      finding += " The first codebook has " + percent(model_.codebook_shares.front()) + " of the weighted loss.";
    if (model_.layers > 0)
      finding += " The layer is " + std::to_string(model_.layers - 1 - layer_.layer) + " layers from the output.";
    add("invisible", Severity::warning, std::move(finding),
        {"the gate lets little of the layer through", "later layers ignore what it adds",
         "the loss is dominated by parts that the layer does not reach (codebook weights)",
         "reconstructing the layer's own targets does not help the task"},
        "train: {group_lr: {ttt: 1e-3, gate: 1e-2}}\nsweep: {model.ttt.layers: [[middle], [late], [last:1]]}");
  }

  const InnerLoopLayer& layer_;
  const InnerLoopModel& model_;
  const InnerLoopStatistics& s_;
  std::vector<Diagnosis>& found_;
};

}  // namespace

const char* to_string(Severity severity) {
  switch (severity) {
    case Severity::note:
      return "note";
    case Severity::warning:
      return "warning";
    case Severity::problem:
      return "problem";
  }
  return "?";
}

LayerDiagnosis diagnose_layer(const InnerLoopLayer& layer, const InnerLoopModel& model) {
  LayerDiagnosis result;
  result.statistics = inner_loop_statistics(layer.curves, layer.mini_batch_size);
  Judge(layer, model, result).judge();
  return result;
}

}  // namespace tenfold

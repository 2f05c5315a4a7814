#include "ttt/inner_loop.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "experiments/error.h"
#include "ttt/inner_loop_group.h"
#include "ttt/inner_loop_losses.h"
#include "ttt/inner_loop_shapes.h"
#include "ttt/per_stream.h"

namespace tenfold {
namespace {

using inner::FastWeights;
using inner::LossCollector;
using inner::Segment;
using inner::Sizes;

class Call {
 public:
  Call(const InnerModel& model, const InnerTokens& tokens, const InnerLoopOptions& options, InnerState* state,
       InnerLossRecorder* recorder, int layer)
      : model_(model),
        in_(tokens),
        options_(options),
        state_(state),
        sizes_{tokens.q.size(0), tokens.q.size(1), tokens.q.size(2), tokens.q.size(3), tokens.q.size(4)} {
    check();
    if (recorder != nullptr && recorder->wants(layer)) losses_.emplace(model, sizes_, options.eps, *recorder, layer);
    fast_ = state != nullptr && state->begun() ? inner::flattened(state->weights, state->biases)
                                               : inner::initial_weights(model, sizes_);
    if (state != nullptr && !state->weight_sums.empty()) sums_ = inner::flattened(state->weight_sums, state->bias_sums);
    norm_weight_ = inner::over_streams(model.norm_weight.unsqueeze(2), sizes_.streams);  // (K, B, H, 1, f)
    norm_bias_ = inner::over_streams(model.norm_bias.unsqueeze(2), sizes_.streams);
    target_ = tokens.v - tokens.k;
    pull_ = norm_weight_ * (norm_bias_ - target_);
    weight_scale_ = norm_weight_.flatten(0, 2).square();
    rate_ = tokens.rate;
    if (tokens.step_weight.defined()) rate_ = rate_ * tokens.step_weight.unsqueeze(2);
    rate_ = rate_.unsqueeze(3).movedim(4, 3);  // (K, B, H, T, 1)
  }

  InnerLoopResult run() {
    const std::int64_t begin = state_ != nullptr ? state_->position : 0;
    const std::int64_t m = options_.mini_batch_size;
    const std::int64_t pending = state_ != nullptr && state_->pending_keys.defined() ? state_->pending_keys.size(3) : 0;
    std::vector<at::Tensor> z, clipped;
    for (const Segment& segment : inner::segments(begin, sizes_.tokens, m, state_ != nullptr)) {
      inner::GroupResult result = run_segment(segment);
      z.push_back(inner::in_order(result.z, sizes_));
      if (result.clipped.defined())
        clipped.push_back(inner::in_order(result.clipped.unsqueeze(-1), sizes_).squeeze(-1));
    }
    InnerLoopResult out;
    const at::Tensor joined = z.size() == 1 ? z[0] : at::cat(z, 3);
    const at::Tensor xhat = at::layer_norm(joined, {sizes_.features}, {}, {}, options_.eps);
    out.output = in_.q + at::addcmul(norm_bias_, xhat, norm_weight_);
    if (in_.step_weight.defined()) out.output = out.output * in_.step_weight.unsqueeze(2).unsqueeze(-1);
    if (!clipped.empty()) out.clipped_share = share(at::cat(clipped, 3));
    if (losses_)
      losses_->hand_over((state_ != nullptr ? state_->origin : 0) + begin - pending, recorded_weight(pending));
    if (state_ != nullptr) keep(begin);
    return out;
  }

 private:
  void check() const {
    const bool in_pieces = state_ != nullptr && state_->position % options_.mini_batch_size != 0;
    if (in_pieces && options_.dialect == InnerDialect::video_dit)
      throw Error(ErrorKind::config,
                  "model.ttt.dialect: video_dit lets a token see the whole mini-batch, so a stream cannot be fed in "
                  "pieces that cut one of " +
                      std::to_string(options_.mini_batch_size) + " tokens; set mini_batch_size: 1 or dialect: causal");
    if (sizes_.tokens < 1) throw Error(ErrorKind::internal, "the inner loop was called without tokens");
    if (state_ != nullptr && state_->open_tokens.defined())
      throw Error(ErrorKind::internal, "the inner loop's streams were padded in an earlier call, so they have ended");
    if (state_ != nullptr && state_->begun() &&
        (state_->weights[0].size(0) != sizes_.members || state_->weights[0].size(1) != sizes_.streams))
      throw Error(ErrorKind::internal, "the inner loop's state is of other streams than its tokens");
  }

  // Real tokens of each mini-batch, (n, K, B), or undefined where all are. Earlier calls had no padding.
  at::Tensor real_tokens(const Segment& segment) const {
    if (!in_.step_weight.defined()) return {};
    const at::Tensor count = in_.step_weight.narrow(2, segment.first, segment.count * segment.length)
                                 .reshape({sizes_.members, sizes_.streams, segment.count, segment.length})
                                 .sum(-1)
                                 .movedim(2, 0);
    return count.to(at::kLong) + segment.offset;
  }

  inner::Tokens tokens_of(const Segment& segment, const at::Tensor& real) const {
    inner::Tokens tokens;
    tokens.q = inner::mini_batches(in_.q, segment);
    tokens.k = inner::mini_batches(in_.k, segment);
    tokens.pull = inner::mini_batches(pull_, segment);
    tokens.rate = inner::mini_batches(rate_, segment).transpose(2, 3);  // (n, N, 1, l)
    tokens.weight_scale = weight_scale_;
    const at::Tensor& c = in_.row_coefficient;
    tokens.last_rate = tokens.rate;
    at::Tensor eta = tokens.rate;
    if (c.defined()) {
      tokens.row = inner::per_model(c.narrow(1, segment.offset, segment.length), sizes_).unsqueeze(-1);  // (N, l, 1)
      tokens.last_row = inner::last_coefficient(c, real, segment.offset + segment.length - 1, segment.count, sizes_);
      tokens.last_rate = tokens.rate * tokens.last_row;
      eta = tokens.row * tokens.rate;
    } else if (segment.offset > 0) {
      tokens.row = at::ones({1, 1, 1}, in_.q.options());
      tokens.last_row = at::ones({1, 1, 1, 1}, in_.q.options());
    }
    eta = eta.expand({segment.count, sizes_.models(), segment.length, segment.length});
    tokens.eta = options_.dialect == InnerDialect::video_dit ? eta.contiguous() : eta.tril();
    return tokens;
  }

  inner::GroupResult run_segment(const Segment& segment) {
    const at::Tensor real = real_tokens(segment);
    const inner::Tokens tokens = tokens_of(segment, real);
    inner::Rules rules;
    rules.eps = options_.eps;
    rules.clip_norm = options_.clip_norm;
    rules.closes = segment.closes;
    rules.moves = state_ != nullptr || segment.first + segment.count * segment.length < sizes_.tokens;
    const at::Tensor targets = losses_ ? inner::mini_batches(target_.detach(), segment) : at::Tensor();
    inner::Observer observer;
    if (losses_ && segment.closes)
      observer = [&](std::int64_t i, const FastWeights& before, const FastWeights& after) {
        losses_->close(with_pending(state_ ? state_->pending_keys : at::Tensor(), tokens.k[i].detach()),
                       with_pending(state_ ? state_->pending_targets : at::Tensor(), targets[i]), before, after);
        if (state_ != nullptr) state_->pending_keys = state_->pending_targets = at::Tensor();
      };
    const bool first_opens = segment.offset > 0;
    const std::int64_t group = options_.checkpoint_group_size;
    inner::GroupResult result =
        group > 0 && segment.closes && !first_opens && at::GradMode::is_enabled()
            ? inner::run_in_groups(tokens, fast_, rules, group, observer)
            : inner::run_group(tokens, fast_, first_opens ? sums_ : FastWeights(), rules, observer);
    fast_ = result.weights;
    sums_ = result.sums;
    if (state_ != nullptr) {
      state_->open_tokens = !segment.closes && real.defined() ? real[0] : at::Tensor();
      if (losses_ && !segment.closes) open_pending(tokens.k[0].detach(), targets[0]);
    }
    return result;
  }

  // (K, B, H, tokens, f) before (N, l, f), or nothing.
  at::Tensor with_pending(const at::Tensor& pending, const at::Tensor& now) const {
    return pending.defined() ? at::cat({pending.flatten(0, 2), now}, 1) : now;
  }

  void open_pending(const at::Tensor& keys, const at::Tensor& targets) {
    at::NoGradGuard no_grad;
    const auto shaped = [&](const at::Tensor& x) {
      return x.view({sizes_.members, sizes_.streams, sizes_.heads, x.size(1), x.size(2)});
    };
    state_->pending_keys = shaped(with_pending(state_->pending_keys, keys));
    state_->pending_targets = shaped(with_pending(state_->pending_targets, targets));
  }

  // Of the tokens whose losses are recorded: those pending before, and those of this call up to the last closed one.
  at::Tensor recorded_weight(std::int64_t pending) const {
    if (!in_.step_weight.defined()) return {};
    const std::int64_t open = state_ != nullptr && state_->pending_keys.defined() ? state_->pending_keys.size(3) : 0;
    const at::Tensor now = in_.step_weight.narrow(2, 0, std::max<std::int64_t>(0, sizes_.tokens - open));
    return pending == 0 ? now : at::cat({at::ones({sizes_.members, sizes_.streams, pending}, now.options()), now}, 2);
  }

  at::Tensor share(const at::Tensor& clipped) const {  // (K, B, H, T)
    at::NoGradGuard no_grad;
    const at::Tensor hits = clipped.to(in_.q.scalar_type());
    if (!in_.step_weight.defined()) return hits.flatten(1).mean(1);
    const at::Tensor weight = in_.step_weight.unsqueeze(2).expand_as(hits);
    return (hits * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp_min(1);
  }

  void keep(std::int64_t begin) {
    state_->position = begin + sizes_.tokens;
    state_->weights = inner::unflattened(fast_.weights, sizes_);
    state_->biases = inner::unflattened(fast_.biases, sizes_);
    state_->weight_sums = inner::unflattened(sums_.weights, sizes_);
    state_->bias_sums = inner::unflattened(sums_.biases, sizes_);
  }

  const InnerModel& model_;
  const InnerTokens& in_;
  const InnerLoopOptions& options_;
  InnerState* state_;
  Sizes sizes_;
  std::optional<LossCollector> losses_;
  FastWeights fast_, sums_;
  at::Tensor norm_weight_, norm_bias_;  // (K, B, H, 1, f)
  at::Tensor target_, pull_, rate_;     // (K, B, H, T, f), likewise, (K, B, H, T, 1)
  at::Tensor weight_scale_;             // (N, 1, f)
};

}  // namespace

InnerLoopResult inner_loop(const InnerModel& model, const InnerTokens& tokens, const InnerLoopOptions& options,
                           InnerState* state, InnerLossRecorder* recorder, int layer) {
  return Call(model, tokens, options, state, recorder, layer).run();
}

}  // namespace tenfold

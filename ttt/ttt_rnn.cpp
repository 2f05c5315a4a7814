#include "ttt/ttt_rnn.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

#include "ttt/ttt_rnn_block.h"

namespace tenfold {
namespace {

using namespace ttt_rnn_detail;

at::Tensor as_row(const at::Tensor& bias) { return bias.defined() ? bias.unsqueeze(1) : bias; }

// (K, B, T, C) -> (N, K, B * L, C), zeros behind the last step.
at::Tensor to_blocks(const Shape& shape, const at::Tensor& values) {
  const std::int64_t padded = shape.blocks * shape.length - shape.steps, columns = values.size(-1);
  const at::Tensor whole = padded > 0 ? at::constant_pad_nd(values, {0, 0, 0, padded}) : values;
  return whole.reshape({shape.members, shape.batch, shape.blocks, shape.length, columns})
      .permute({2, 0, 1, 3, 4})
      .reshape({shape.blocks, shape.members, shape.rows(), columns});
}

at::Tensor from_blocks(const Shape& shape, const at::Tensor& blocks) {
  return blocks.view({shape.blocks, shape.members, shape.batch, shape.length, blocks.size(-1)})
      .permute({1, 2, 0, 3, 4})
      .reshape({shape.members, shape.batch, shape.blocks * shape.length, blocks.size(-1)})
      .narrow(2, 0, shape.steps);
}

// (N, K, R, C) or (2, N, K, R, C) -> (K, rows of all blocks, C), the order of the sums over rows.
at::Tensor by_member(const at::Tensor& blocks) {
  if (blocks.dim() == 4) return blocks.transpose(0, 1).flatten(1, 2);
  return blocks.permute({2, 0, 1, 3, 4}).flatten(1, 3);
}

at::Tensor weight_gradient(const at::Tensor& inputs, const at::Tensor& gradients) {
  return inputs.transpose(1, 2).bmm(gradients);
}

// Sums over rows as products with ones: a plain sum's order would depend on K.
at::Tensor row_sum(const at::Tensor& rows) {
  return at::ones({1, 1, 1}, rows.options()).expand({rows.size(0), 1, rows.size(1)}).bmm(rows);
}

// What one call computes with beside differentiable inputs.
struct Call {
  Shape shape;
  at::Tensor rates;   // (N, P, K, R, 1)
  at::Tensor weight;  // (N, K, R, 1) 1 for real rows; undefined: all are
  at::Tensor held;    // (N, K, B, 1) the weight of a block's last step in the direction of time
  BlockLosses* losses;
  bool keep;
};

Encoder first_encoder(const Shape& shape, const Encoder& initial) {
  if (!shape.options.persistent) return initial;
  const auto running = [&](const at::Tensor& weight) {
    if (!weight.defined()) return weight;
    if (!shape.options.per_sequence) return weight.clone();
    return weight.unsqueeze(1)
        .expand({shape.members, shape.batch, weight.size(1), weight.size(2)})
        .reshape({shape.groups(), weight.size(1), weight.size(2)});
  };
  return {running(initial.w0), running(initial.b0), running(initial.w1), running(initial.b1)};
}

// Inputs of the recurrence, in this order. Biases (K, 1, C).
enum Input { kFromX, kPhi, kPsi, kW0, kB0, kW1, kB1, kG, kGBias, kH, kHBias, kLnWeight, kLnBias, kInitial, kInputs };
using Inputs = std::vector<at::Tensor>;

Parameters parameters_of(const Inputs& in) {
  return {in[kPhi],   in[kPsi],      {in[kW0], in[kB0], in[kW1], in[kB1]},
          in[kG],     in[kGBias],    in[kH],
          in[kHBias], in[kLnWeight], in[kLnBias],
          {}};
}

std::int64_t block_at(const Shape& shape, std::int64_t i) { return shape.options.reverse ? shape.blocks - 1 - i : i; }

// The recurrence over the blocks of a sequence as one operation of autograd: (2, N, K, R, U) of what x gives to a and q
// -> states (N, K, R, U).
class Recurrence : public torch::autograd::Function<Recurrence> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const Call* call, const at::Tensor& from_x,
                            const at::Tensor& phi, const at::Tensor& psi, const at::Tensor& w0, const at::Tensor& b0,
                            const std::optional<at::Tensor>& w1, const std::optional<at::Tensor>& b1,
                            const at::Tensor& g, const at::Tensor& g_bias, const at::Tensor& h,
                            const at::Tensor& h_bias, const std::optional<at::Tensor>& ln_weight,
                            const std::optional<at::Tensor>& ln_bias, const std::optional<at::Tensor>& initial) {
    const Shape& shape = call->shape;
    const auto value = [](const std::optional<at::Tensor>& tensor) { return tensor.value_or(at::Tensor()); };
    const Inputs inputs = {
        from_x,         phi,           psi, w0, b0, value(w1), value(b1), g, g_bias, h, h_bias, value(ln_weight),
        value(ln_bias), value(initial)};
    const Parameters parameters = parameters_of(inputs);
    Tape tape(shape, call->keep, from_x.options());
    if (call->keep) tape.aq.copy_(from_x);
    Encoder encoder = first_encoder(shape, parameters.encoder);
    at::Tensor state = at::zeros({shape.members, shape.batch, shape.units}, from_x.options());
    if (inputs[kInitial].defined()) state.copy_(inputs[kInitial].expand_as(state));
    at::Tensor states = at::empty({shape.blocks, shape.members, shape.rows(), shape.units}, from_x.options());
    for (std::int64_t i = 0; i < shape.blocks; ++i) {
      const std::int64_t block = block_at(shape, i), slot = call->keep ? block : 0;
      if (!call->keep) tape.aq.select(1, 0).copy_(from_x.select(1, block));
      at::Tensor part = states.select(0, block);
      forward_block(shape, parameters, encoder, call->rates.select(0, block), state, tape, slot, part, call->losses,
                    block);
      if (shape.options.persistent) move_encoder(shape, tape, slot, encoder, 1);
      const at::Tensor next = last_step(shape, part);
      state = call->held.defined() ? at::where(call->held.select(0, block) > 0, next, state) : next;
    }
    if (call->keep) {
      torch::autograd::variable_list saved = inputs;
      saved.push_back(call->rates);
      saved.push_back(call->held);
      for (const at::Tensor& tensor : tape.tensors()) saved.push_back(tensor);
      if (shape.options.persistent) {
        saved.push_back(encoder.w0), saved.push_back(encoder.b0);
        saved.push_back(encoder.w1), saved.push_back(encoder.b1);
      }
      context->save_for_backward(saved);
      save_shape(context, shape);
    }
    return states;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& outputs) {
    const Shape shape = load_shape(context);
    const auto saved = context->get_saved_variables();
    const Inputs in(saved.begin(), saved.begin() + kInputs);
    const at::Tensor& held = saved[kInputs + 1];
    const Parameters parameters = parameters_of(in);
    const Tape tape = Tape::of(shape, {saved.begin() + kInputs + 2, saved.end()});
    Encoder encoder = parameters.encoder;
    if (shape.options.persistent) {
      const std::size_t end = saved.size();
      const auto running = [](const at::Tensor& tensor) { return tensor.defined() ? tensor.clone() : tensor; };
      encoder = {running(saved[end - 4]), running(saved[end - 3]), running(saved[end - 2]), running(saved[end - 1])};
    }
    Gradients gradients(shape, in[kFromX].options());
    gradients.d_h.copy_(outputs[0]);
    at::Tensor d_state = at::zeros({shape.members, shape.batch, shape.units}, in[kFromX].options());
    for (std::int64_t i = shape.blocks - 1; i >= 0; --i) {
      const std::int64_t block = block_at(shape, i);
      if (shape.options.persistent) move_encoder(shape, tape, block, encoder, -1);
      at::Tensor d_last = last_step(shape, gradients.d_h.select(0, block));
      if (held.defined())
        d_last.addcmul_(d_state, held.select(0, block));
      else
        d_last.add_(d_state);
      at::Tensor d_entering = backward_block(shape, parameters, encoder, tape, gradients, block);
      if (held.defined()) d_entering.add_(d_state - d_state * held.select(0, block));
      d_state = d_entering;
    }
    return collect(context, shape, in, tape, gradients, d_state);
  }

 private:
  // (K, R, U) -> (K, B, U), a view.
  static at::Tensor last_step(const Shape& shape, const at::Tensor& rows) {
    if (shape.length == 1) return rows;
    return rows.view({shape.members, shape.batch, shape.length, shape.units})
        .select(2, shape.options.reverse ? 0 : shape.length - 1);
  }

  // Gradients of all inputs that want one, from those by block.
  static torch::autograd::variable_list collect(const torch::autograd::AutogradContext* context, const Shape& shape,
                                                const Inputs& in, const Tape& tape, const Gradients& gradients,
                                                const at::Tensor& d_initial) {
    torch::autograd::variable_list out(kInputs);
    // Autograd counts the inputs that are there.
    std::vector<bool> needed(kInputs, false);
    for (std::size_t input = 0, edge = 0; input < kInputs; ++input)
      if (in[input].defined()) needed[input] = context->needs_input_grad(edge++);
    const auto wanted = [&](Input input) { return needed[input]; };
    const auto linear = [&](Input weight, Input bias, const at::Tensor& rows, const at::Tensor& d_rows) {
      if (!wanted(weight) && !wanted(bias)) return;
      const at::Tensor d = by_member(d_rows);
      if (wanted(weight)) out[weight] = weight_gradient(by_member(rows), d);
      if (wanted(bias)) out[bias] = row_sum(d);
    };
    if (wanted(kFromX)) out[kFromX] = gradients.d_aq;
    for (const auto& [input, which] : {std::pair(kPhi, 0), std::pair(kPsi, 1)}) {
      if (!wanted(input)) continue;
      at::Tensor d = gradients.d_aq.select(0, which);
      if (shape.length > 1) d = d.view({shape.blocks, shape.members, shape.batch, shape.length, shape.units}).sum(3);
      out[input] = weight_gradient(by_member(tape.state), by_member(d));
    }
    const bool two_layers = shape.options.two_layers;
    linear(kW0, kB0, tape.aq, two_layers ? gradients.d_z : gradients.d_y);
    if (two_layers && (wanted(kW1) || wanted(kB1)))
      linear(kW1, kB1, wanted(kW1) ? at::gelu(tape.z_last) : tape.z_last, gradients.d_y);
    linear(kG, kGBias, tape.y, gradients.d_decoded);
    linear(kH, kHBias, tape.out, gradients.d_h);
    if (wanted(kLnWeight) || wanted(kLnBias)) {
      const at::Tensor d = gradients.d_y.select(0, 1) * kResidual;  // at r_n
      if (wanted(kLnWeight)) out[kLnWeight] = row_sum(by_member((tape.decoded - tape.mean) * tape.rstd * d));
      if (wanted(kLnBias)) out[kLnBias] = row_sum(by_member(d));
    }
    if (wanted(kInitial)) out[kInitial] = row_sum(d_initial);
    out.insert(out.begin(), at::Tensor());  // of the call
    return out;
  }

  static void save_shape(torch::autograd::AutogradContext* context, const Shape& s) {
    const TttRnnOptions& o = s.options;
    context->saved_data["shape"] = std::vector<std::int64_t>{
        o.two_layers, o.decoder_ln, o.per_sequence, o.persistent, o.reverse, o.inner_iterations,
        o.window,     o.use_sgd,    s.members,      s.batch,      s.steps,   s.blocks,
        s.length,     s.units,      s.width};
  }
  static Shape load_shape(torch::autograd::AutogradContext* context) {
    const std::vector<std::int64_t> v = context->saved_data["shape"].toIntVector();
    TttRnnOptions options;
    options.two_layers = v[0] != 0;
    options.decoder_ln = v[1] != 0;
    options.per_sequence = v[2] != 0;
    options.persistent = v[3] != 0;
    options.reverse = v[4] != 0;
    options.inner_iterations = static_cast<int>(v[5]);
    options.window = v[6];
    options.use_sgd = v[7] != 0;
    return {options, v[8], v[9], v[10], v[11], v[12], v[13], v[14]};
  }
};

// (N, P, K, R, 1): 2 base_lr / (U * real rows of the loss), 0 for rows that an inner step does not learn from.
at::Tensor inner_rates(const Shape& shape, const at::Tensor& weight, const at::Tensor& base_lr,
                       const at::TensorOptions& like) {
  const std::int64_t parts = shape.options.use_sgd && shape.length > 1 ? shape.options.inner_iterations : 1;
  at::Tensor rows = weight.defined() ? weight : at::ones({shape.blocks, shape.members, shape.rows(), 1}, like);
  rows = rows.view({shape.blocks, 1, shape.members, shape.batch, shape.length});
  if (parts > 1) {
    // Step l belongs to part l * parts / L, counted in the direction of time.
    const at::Tensor step = at::arange(shape.length, like.dtype(at::kLong));
    const at::Tensor ordered = shape.options.reverse ? shape.length - 1 - step : step;
    const at::Tensor part = at::div(ordered * parts, shape.length, "floor");
    const at::Tensor own = part.unsqueeze(0) == at::arange(parts, like.dtype(at::kLong)).unsqueeze(1);  // (P, L)
    rows = rows * own.to(like.dtype()).view({1, parts, 1, 1, shape.length});
  }
  const at::Tensor count = shape.options.per_sequence ? rows.sum({4}, true) : rows.sum({3, 4}, true);
  const at::Tensor rate = base_lr.to(like).view({1, 1, shape.members, 1, 1}) * (2.0 / static_cast<double>(shape.units));
  return (rows * (rate / count.clamp_min(1))).reshape({shape.blocks, parts, shape.members, shape.rows(), 1});
}

}  // namespace

at::Tensor ttt_rnn(const at::Tensor& x, const TttRnnWeights& weights, const at::Tensor& base_lr,
                   const at::Tensor& step_weight, const TttRnnOptions& options, TttRnnLosses* losses) {
  const std::int64_t features = x.size(3), units = weights.g.size(1);
  Shape shape{options, x.size(0), x.size(1), x.size(2), 0, options.window, units, weights.encoder0.size(2)};
  shape.blocks = (shape.steps + shape.length - 1) / shape.length;
  const bool padded = step_weight.defined() || shape.blocks * shape.length > shape.steps;

  Call call{shape, {}, {}, {}, nullptr, false};
  BlockLosses block_losses;
  {
    at::NoGradGuard no_grad;
    if (padded) {
      const at::Tensor real = step_weight.defined()
                                  ? step_weight.to(x.scalar_type())
                                  : at::ones({1, 1, 1}, x.options()).expand({shape.members, shape.batch, shape.steps});
      call.weight = to_blocks(shape, real.unsqueeze(-1));
      call.held = call.weight.view({shape.blocks, shape.members, shape.batch, shape.length, 1})
                      .select(3, options.reverse ? 0 : shape.length - 1);
    }
    call.rates = inner_rates(shape, call.weight, base_lr, x.options());
    if (losses != nullptr) {
      const auto empty = [&] { return at::empty({shape.blocks, shape.members, shape.rows()}, x.options()); };
      block_losses = {options.persistent ? empty() : at::Tensor(), {}, empty(), {}};
      for (int i = 0; i < options.inner_iterations; ++i) block_losses.iteration.push_back(empty());
      call.losses = &block_losses;
    }
  }

  // What x gives to a and q, of all steps at once.
  const at::Tensor kernel = at::cat({weights.phi.narrow(1, 0, features), weights.psi.narrow(1, 0, features)}, 2);
  const at::Tensor bias = at::cat({weights.phi_bias, weights.psi_bias}, 1).unsqueeze(1);
  at::Tensor real_x = x;
  if (step_weight.defined()) real_x = at::where(step_weight.unsqueeze(-1) > 0, x, at::zeros({}, x.options()));
  const at::Tensor projected =
      at::baddbmm(bias, real_x.reshape({shape.members, shape.batch * shape.steps, features}), kernel);
  const at::Tensor from_x = to_blocks(shape, projected.view({shape.members, shape.batch, shape.steps, 2 * units}))
                                .view({shape.blocks, shape.members, shape.rows(), 2, units})
                                .permute({3, 0, 1, 2, 4});

  const Inputs inputs = {from_x,
                         weights.phi.narrow(1, features, units),
                         weights.psi.narrow(1, features, units),
                         weights.encoder0,
                         as_row(weights.encoder0_bias),
                         weights.encoder1,
                         as_row(weights.encoder1_bias),
                         weights.g,
                         as_row(weights.g_bias),
                         weights.h,
                         as_row(weights.h_bias),
                         as_row(weights.ln_weight),
                         as_row(weights.ln_bias),
                         weights.initial_state};
  if (at::GradMode::is_enabled())
    for (const at::Tensor& input : inputs) call.keep = call.keep || (input.defined() && input.requires_grad());
  const auto optional = [&inputs](Input input) {
    return inputs[input].defined() ? std::optional(inputs[input]) : std::nullopt;
  };
  const at::Tensor states =
      Recurrence::apply(&call, inputs[kFromX], inputs[kPhi], inputs[kPsi], inputs[kW0], inputs[kB0], optional(kW1),
                        optional(kB1), inputs[kG], inputs[kGBias], inputs[kH], inputs[kHBias], optional(kLnWeight),
                        optional(kLnBias), optional(kInitial));

  if (losses != nullptr) {
    const auto by_step = [&](const at::Tensor& values) { return from_blocks(shape, values.unsqueeze(-1)).squeeze(-1); };
    losses->iteration.clear();
    for (const at::Tensor& loss : block_losses.iteration) losses->iteration.push_back(by_step(loss));
    losses->lprev = losses->iteration.front();
    losses->l0 = options.persistent ? by_step(block_losses.l0) : losses->lprev;
    losses->lafter = by_step(block_losses.lafter);
  }
  const at::Tensor result = from_blocks(shape, states);
  return step_weight.defined() ? result * step_weight.to(x.scalar_type()).unsqueeze(-1) : result;
}

}  // namespace tenfold

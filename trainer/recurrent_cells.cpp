#include "trainer/recurrent_cells.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

namespace tenfold::layers {
namespace {

at::Tensor transposed(const at::Tensor& matrix) { return matrix.transpose(1, 2); }

// (T, K, B, C) -> (K, T * B, C)
at::Tensor by_member(const at::Tensor& steps) { return steps.transpose(0, 1).flatten(1, 2); }

// A product with ones: the order of a plain sum would depend on K.
at::Tensor row_sum(const at::Tensor& rows) {
  return at::ones({1, 1, 1}, rows.options()).expand({rows.size(0), 1, rows.size(1)}).bmm(rows);
}

// One step of a cell on contiguous parts (K, B, ...).
struct Gru {
  static constexpr std::int64_t kGates = 3;
  static constexpr bool kHasCell = false;
  // from_x: becomes r, z, n; from_h (h V + c): its last third stays what r multiplies.
  static void forward(at::Tensor& gates, const at::Tensor& from_h, const at::Tensor& h, const at::Tensor& /*cell*/,
                      at::Tensor& h_out, at::Tensor& /*cell_out*/) {
    const std::int64_t units = h.size(-1);
    at::Tensor rz = gates.narrow(-1, 0, 2 * units), n = gates.narrow(-1, 2 * units, units);
    rz.add_(from_h.narrow(-1, 0, 2 * units)).sigmoid_();
    n.addcmul_(rz.narrow(-1, 0, units), from_h.narrow(-1, 2 * units, units)).tanh_();
    at::lerp_out(h_out, n, h, rz.narrow(-1, units, units));
  }
  // d_h: at the new state. Fills d_gates (at the gates' arguments from x) and d_from_h; returns what goes to h
  // directly.
  static at::Tensor backward(const at::Tensor& gates, const at::Tensor& from_h, const at::Tensor& h, const at::Tensor&,
                             const at::Tensor&, const at::Tensor& d_h, at::Tensor& /*d_cell*/, at::Tensor d_gates,
                             at::Tensor d_from_h) {
    const std::int64_t units = h.size(-1);
    const at::Tensor r = gates.narrow(-1, 0, units), z = gates.narrow(-1, units, units),
                     n = gates.narrow(-1, 2 * units, units);
    at::Tensor d_n = d_gates.narrow(-1, 2 * units, units);
    d_n.copy_(at::tanh_backward(d_h - d_h * z, n));
    d_gates.narrow(-1, 0, units).copy_(d_n * from_h.narrow(-1, 2 * units, units));
    d_gates.narrow(-1, units, units).copy_(d_h * (h - n));
    at::Tensor d_rz = d_gates.narrow(-1, 0, 2 * units);
    d_rz.copy_(at::sigmoid_backward(d_rz, gates.narrow(-1, 0, 2 * units)));
    d_from_h.narrow(-1, 0, 2 * units).copy_(d_rz);
    d_from_h.narrow(-1, 2 * units, units).copy_(d_n * r);
    return d_h * z;
  }
};

struct Lstm {
  static constexpr std::int64_t kGates = 4;
  static constexpr bool kHasCell = true;
  static void forward(at::Tensor& gates, const at::Tensor& from_h, const at::Tensor& h, const at::Tensor& cell,
                      at::Tensor& h_out, at::Tensor& cell_out) {
    const std::int64_t units = h.size(-1);
    gates.add_(from_h);
    gates.narrow(-1, 0, 2 * units).sigmoid_();
    gates.narrow(-1, 2 * units, units).tanh_();
    gates.narrow(-1, 3 * units, units).sigmoid_();
    at::mul_out(cell_out, gates.narrow(-1, units, units), cell);
    cell_out.addcmul_(gates.narrow(-1, 0, units), gates.narrow(-1, 2 * units, units));
    at::mul_out(h_out, gates.narrow(-1, 3 * units, units), cell_out.tanh());
  }
  static at::Tensor backward(const at::Tensor& gates, const at::Tensor&, const at::Tensor& h, const at::Tensor& cell,
                             const at::Tensor& cell_out, const at::Tensor& d_h, at::Tensor& d_cell, at::Tensor d_gates,
                             at::Tensor d_from_h) {
    const std::int64_t units = h.size(-1);
    const auto part = [units](const at::Tensor& all, int i) { return all.narrow(-1, i * units, units); };
    const at::Tensor squashed = cell_out.tanh();
    const at::Tensor d_new = d_cell + at::tanh_backward(d_h * part(gates, 3), squashed);
    part(d_gates, 0).copy_(at::sigmoid_backward(d_new * part(gates, 2), part(gates, 0)));
    part(d_gates, 1).copy_(at::sigmoid_backward(d_new * cell, part(gates, 1)));
    part(d_gates, 2).copy_(at::tanh_backward(d_new * part(gates, 0), part(gates, 2)));
    part(d_gates, 3).copy_(at::sigmoid_backward(d_h * squashed, part(gates, 3)));
    d_from_h.copy_(d_gates);
    d_cell = d_new * part(gates, 1);
    return at::zeros_like(d_h);
  }
};

// What x gives to the gates (T, K, B, G U) -> states (T, K, B, U). real: (T, K, B, 1) or undefined.
template <class Cell>
class Recurrence : public torch::autograd::Function<Recurrence<Cell>> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& from_x,
                            const at::Tensor& hidden, const at::Tensor& hidden_bias,
                            const std::optional<at::Tensor>& real_steps, bool reverse, bool keep) {
    const at::Tensor real = real_steps.value_or(at::Tensor());
    const std::int64_t steps = from_x.size(0), units = hidden.size(1);
    const auto blank = [&](std::int64_t slots, std::int64_t columns) {
      return at::empty({slots, from_x.size(1), from_x.size(2), columns}, from_x.options());
    };
    const std::int64_t slots = keep ? steps : 1;
    at::Tensor gates = blank(slots, Cell::kGates * units), from_h = blank(slots, Cell::kGates * units);
    at::Tensor states = blank(steps, units), entered = blank(slots, units);
    at::Tensor cells = Cell::kHasCell ? blank(slots, units) : at::Tensor();
    at::Tensor cells_out = Cell::kHasCell ? blank(slots, units) : at::Tensor();
    at::Tensor h = at::zeros(entered[0].sizes(), from_x.options());
    at::Tensor cell = Cell::kHasCell ? at::zeros_like(h) : at::Tensor();
    for (std::int64_t i = 0; i < steps; ++i) {
      const std::int64_t t = reverse ? steps - 1 - i : i, slot = keep ? t : 0;
      const auto part = [slot](const at::Tensor& all) { return all.defined() ? all.select(0, slot) : all; };
      at::Tensor own_gates = part(gates), own_from_h = part(from_h), own_cell_out = part(cells_out);
      part(entered).copy_(h);
      if (cell.defined()) part(cells).copy_(cell);
      own_gates.copy_(from_x.select(0, t));
      at::baddbmm_out(own_from_h, hidden_bias, h, hidden);
      at::Tensor next = states.select(0, t);
      Cell::forward(own_gates, own_from_h, h, cell, next, own_cell_out);
      h = real.defined() ? at::where(real.select(0, t) > 0, next, h) : next;
      if (cell.defined())
        cell = (real.defined() ? at::where(real.select(0, t) > 0, own_cell_out, cell) : own_cell_out).clone();
    }
    if (keep) {
      context->save_for_backward({hidden, real, gates, from_h, entered, cells, cells_out});
      context->saved_data["reverse"] = reverse;
    }
    return states;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& outputs) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &hidden = saved[0], &real = saved[1], &gates = saved[2], &from_h = saved[3], &entered = saved[4],
                     &cells = saved[5], &cells_out = saved[6], &d_states = outputs[0];
    const bool reverse = context->saved_data["reverse"].toBool();
    const std::int64_t steps = d_states.size(0);
    at::Tensor d_gates = at::empty_like(gates), d_from_h = at::empty_like(from_h);
    at::Tensor d_h = at::zeros(entered[0].sizes(), entered.options()), d_cell = at::zeros_like(d_h);
    for (std::int64_t i = steps - 1; i >= 0; --i) {
      const std::int64_t t = reverse ? steps - 1 - i : i;
      const auto part = [t](const at::Tensor& all) { return all.defined() ? all.select(0, t) : all; };
      // What is held goes by the step; the rest through it.
      at::Tensor held, held_cell, d_new = d_h, d_new_cell = d_cell;
      if (real.defined()) {
        d_new = d_h * part(real);
        d_new_cell = d_cell * part(real);
        held = d_h - d_new;
        held_cell = d_cell - d_new_cell;
      }
      d_new = d_new + part(d_states);
      d_h = Cell::backward(part(gates), part(from_h), part(entered), part(cells), part(cells_out), d_new, d_new_cell,
                           part(d_gates), part(d_from_h));
      d_h = at::baddbmm(d_h, part(d_from_h), transposed(hidden));
      d_cell = d_new_cell;
      if (real.defined()) {
        d_h.add_(held);
        d_cell = d_cell + held_cell;
      }
    }
    torch::autograd::variable_list out(6);
    if (context->needs_input_grad(0)) out[0] = d_gates;
    const at::Tensor rows = by_member(d_from_h);
    if (context->needs_input_grad(1)) out[1] = transposed(by_member(entered)).bmm(rows);
    if (context->needs_input_grad(2)) out[2] = row_sum(rows);
    return out;
  }
};

template <class Cell>
at::Tensor run(const at::Tensor& x, const CellWeights& w, const at::Tensor& step_weight, bool reverse) {
  const std::int64_t members = x.size(0), batch = x.size(1), steps = x.size(2), columns = w.input.size(2);
  at::Tensor input = x, real;
  if (step_weight.defined()) {
    input = at::where(step_weight.unsqueeze(-1) > 0, x, at::zeros({}, x.options()));
    real = step_weight.detach().to(x.scalar_type()).permute({2, 0, 1}).contiguous().unsqueeze(-1);
  }
  const at::Tensor from_x =
      at::baddbmm(w.input_bias.unsqueeze(1), input.reshape({members, batch * steps, x.size(3)}), w.input)
          .view({members, batch, steps, columns})
          .permute({2, 0, 1, 3});
  bool keep = false;
  if (at::GradMode::is_enabled())
    for (const at::Tensor* tensor : {&from_x, &w.hidden, &w.hidden_bias}) keep = keep || tensor->requires_grad();
  const at::Tensor states = Recurrence<Cell>::apply(from_x, w.hidden, w.hidden_bias.unsqueeze(1),
                                                    real.defined() ? std::optional(real) : std::nullopt, reverse, keep);
  const at::Tensor result = states.permute({1, 2, 0, 3});
  return step_weight.defined() ? result * step_weight.to(x.scalar_type()).unsqueeze(-1) : result.contiguous();
}

}  // namespace

at::Tensor gru(const at::Tensor& x, const CellWeights& weights, const at::Tensor& step_weight, bool reverse) {
  return run<Gru>(x, weights, step_weight, reverse);
}

at::Tensor lstm(const at::Tensor& x, const CellWeights& weights, const at::Tensor& step_weight, bool reverse) {
  return run<Lstm>(x, weights, step_weight, reverse);
}

}  // namespace tenfold::layers

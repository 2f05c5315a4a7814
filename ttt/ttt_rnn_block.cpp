#include "ttt/ttt_rnn_block.h"

#include <ATen/ATen.h>

namespace tenfold::ttt_rnn_detail {
namespace {

at::Tensor transposed(const at::Tensor& matrix) { return matrix.transpose(1, 2); }

// out -= (rows keys^T + 1) values, within each set of fast weights: what an inner step that saw inputs `keys` with
// gradients `values` takes from (rows W + b).
void subtract_change(const Shape& shape, const at::Tensor& out, const at::Tensor& rows, const at::Tensor& keys,
                     const at::Tensor& values) {
  const at::Tensor products = shape.by_group(rows).bmm(transposed(shape.by_group(keys))).add_(1);
  shape.by_group(out).baddbmm_(products, shape.by_group(values), 1, -1);
}

// out -= (rows values^T) keys: the same for a gradient `rows` that goes back through W^T.
void subtract_change_back(const Shape& shape, const at::Tensor& out, const at::Tensor& rows, const at::Tensor& keys,
                          const at::Tensor& values) {
  const at::Tensor products = shape.by_group(rows).bmm(transposed(shape.by_group(values)));
  shape.by_group(out).baddbmm_(products, shape.by_group(keys), 1, -1);
}

void encode(const Shape& shape, const at::Tensor& out, const at::Tensor& rows, const at::Tensor& weight,
            const at::Tensor& bias) {
  at::Tensor view = shape.by_encoder(out);
  at::baddbmm_out(view, bias, shape.by_encoder(rows), weight);
}

at::Tensor decode_back(const Shape& shape, const at::Tensor& rows, const at::Tensor& weight) {
  return shape.by_encoder(rows).bmm(transposed(weight)).view({shape.members, shape.rows(), weight.size(1)});
}

// r from g's output, and what its backward pass needs.
struct Decoded {
  at::Tensor r, mean, rstd;
};
Decoded normalise(const Shape& shape, const Parameters& parameters, const at::Tensor& decoded) {
  if (!shape.options.decoder_ln) return {decoded, {}, {}};
  auto [xhat, mean, rstd] = at::native_layer_norm(decoded, {shape.units}, {}, {}, kNormEps);
  return {at::addcmul(parameters.ln_bias, xhat, parameters.ln_weight), mean, rstd};
}

// Takes the gradient at r (overwritten) back to g's output.
at::Tensor normalise_back(const Shape& shape, const Parameters& parameters, at::Tensor& d_r, const at::Tensor& decoded,
                          const at::Tensor& mean, const at::Tensor& rstd) {
  if (!shape.options.decoder_ln) return d_r;
  d_r.mul_(parameters.ln_weight);
  return std::get<0>(
      at::native_layer_norm_backward(d_r, decoded, {shape.units}, mean, rstd, {}, {}, {true, false, false}));
}

at::Tensor row_loss(const at::Tensor& difference) { return difference.square().mean(-1); }

// (r - a) by an encoder with changes that inner steps made.
struct Changes {
  at::Tensor of_input;                 // to a W of the first layer; undefined: none
  std::vector<at::Tensor> x, outputs;  // inputs of the second layer and the rates at its output
};
at::Tensor reconstruct(const Shape& shape, const Parameters& parameters, const Encoder& encoder, const at::Tensor& a,
                       const Changes& changes) {
  at::Tensor z = at::empty({shape.members, shape.rows(), shape.width}, a.options());
  encode(shape, z, a, encoder.w0, encoder.b0);
  if (changes.of_input.defined()) subtract_change(shape, z, a, a, changes.of_input);
  at::Tensor y = z;
  if (shape.options.two_layers) {
    const at::Tensor x = at::gelu(z);
    y = at::empty_like(a);
    encode(shape, y, x, encoder.w1, encoder.b1);
    for (std::size_t j = 0; j < changes.x.size(); ++j) subtract_change(shape, y, x, changes.x[j], changes.outputs[j]);
  }
  return normalise(shape, parameters, at::baddbmm(parameters.g_bias, y, parameters.g)).r - a;
}

}  // namespace

at::Tensor Shape::by_group(const at::Tensor& rows) const {
  return options.per_sequence ? rows.view({members * batch, length, rows.size(-1)}) : rows;
}

at::Tensor Shape::by_encoder(const at::Tensor& rows) const { return options.persistent ? by_group(rows) : rows; }

Tape::Tape(const Shape& shape, bool keep, const at::TensorOptions& like) {
  const std::int64_t slots = keep ? shape.blocks : 1;
  const auto rows = [&](std::int64_t columns) {
    return at::empty({slots, shape.members, shape.rows(), columns}, like);
  };
  const auto pair = [&](std::int64_t columns) {
    return at::empty({2, slots, shape.members, shape.rows(), columns}, like);
  };
  const int inner = shape.options.inner_iterations;
  aq = pair(shape.units);
  if (shape.options.two_layers) {
    for (int i = 1; i < inner; ++i) z.push_back(rows(shape.width));
    z_last = pair(shape.width);
    for (int i = 0; i < inner; ++i) output_rates.push_back(rows(shape.units));
  }
  if (inner > 1) change_before = rows(shape.width);
  change = rows(shape.width);
  y = rows(shape.units);
  decoded = rows(shape.units);
  if (shape.options.decoder_ln) {
    mean = rows(1);
    rstd = rows(1);
  }
  out = rows(shape.units);
  state = at::empty({slots, shape.members, shape.batch, shape.units}, like);
}

std::vector<at::Tensor> Tape::tensors() const {
  std::vector<at::Tensor> all = {aq, z_last, change_before, change, y, decoded, mean, rstd, out, state};
  all.insert(all.end(), z.begin(), z.end());
  all.insert(all.end(), output_rates.begin(), output_rates.end());
  return all;
}

Tape Tape::of(const Shape& shape, const std::vector<at::Tensor>& t) {
  Tape tape;
  tape.aq = t[0], tape.z_last = t[1], tape.change_before = t[2], tape.change = t[3], tape.y = t[4];
  tape.decoded = t[5], tape.mean = t[6], tape.rstd = t[7], tape.out = t[8], tape.state = t[9];
  if (shape.options.two_layers) {
    const auto inner = static_cast<std::ptrdiff_t>(shape.options.inner_iterations);
    tape.z.assign(t.begin() + 10, t.begin() + 10 + inner - 1);
    tape.output_rates.assign(t.begin() + 10 + inner - 1, t.begin() + 10 + 2 * inner - 1);
  }
  return tape;
}

void forward_block(const Shape& shape, const Parameters& parameters, const Encoder& encoder, const at::Tensor& rates,
                   const at::Tensor& state, Tape& tape, std::int64_t slot, at::Tensor& h, BlockLosses* losses,
                   std::int64_t block) {
  const int inner = shape.options.inner_iterations;
  const bool two_layers = shape.options.two_layers;
  const auto part = [slot](const at::Tensor& buffer) { return buffer.select(0, slot); };
  const auto part_of = [slot](const at::Tensor& pair, int which) { return pair.select(0, which).select(0, slot); };
  const at::Tensor a = part_of(tape.aq, 0), q = part_of(tape.aq, 1);
  tape.state.select(0, slot).copy_(state);
  if (shape.length == 1) {
    a.baddbmm_(state, parameters.phi);
    q.baddbmm_(state, parameters.psi);
  } else {
    const std::vector<std::int64_t> by_step = {shape.members, shape.batch, shape.length, shape.units};
    a.view(by_step).add_(state.bmm(parameters.phi).unsqueeze(2));
    q.view(by_step).add_(state.bmm(parameters.psi).unsqueeze(2));
  }

  const at::Tensor change = part(tape.change);
  // a W of the unchanged encoder; products of the rows of a with each other, by which every change reaches it.
  at::Tensor first = two_layers ? (inner > 1 ? part(tape.z[0]) : part_of(tape.z_last, 0)) : part(tape.y);
  if (!two_layers && inner > 1) first = at::empty_like(first);
  encode(shape, first, a, encoder.w0, encoder.b0);
  at::Tensor products;
  if (inner > 1) products = shape.by_group(a).bmm(transposed(shape.by_group(a))).add_(1);

  std::vector<at::Tensor> inputs;  // of the encoder's second layer
  at::Tensor r;
  for (int i = 0; i < inner; ++i) {
    const bool last = i + 1 == inner;
    at::Tensor z = first;
    if (i > 0) {
      z = two_layers ? (last ? part_of(tape.z_last, 0) : part(tape.z[i]))
                     : (last ? part(tape.y) : at::empty_like(first));
      at::Tensor view = shape.by_group(z);
      at::baddbmm_out(view, shape.by_group(first), products, shape.by_group(change), 1, -1);
    }
    at::Tensor y = z;
    if (two_layers) {
      const at::Tensor x = at::gelu(z);
      y = last ? part(tape.y) : at::empty_like(a);
      encode(shape, y, x, encoder.w1, encoder.b1);
      for (int j = 0; j < i; ++j) subtract_change(shape, y, x, inputs[j], part(tape.output_rates[j]));
      inputs.push_back(x);
    }
    at::Tensor decoded = last ? part(tape.decoded) : at::empty_like(a);
    at::baddbmm_out(decoded, parameters.g_bias, y, parameters.g);
    const Decoded norm = normalise(shape, parameters, decoded);
    r = norm.r;
    if (last && norm.mean.defined()) {
      part(tape.mean).copy_(norm.mean);
      part(tape.rstd).copy_(norm.rstd);
    }
    at::Tensor d_r = r - a;
    if (losses != nullptr) losses->iteration[static_cast<std::size_t>(i)].select(0, block).copy_(row_loss(d_r));
    d_r.mul_(rates.select(0, rates.size(0) > 1 ? i : 0));
    const at::Tensor d_decoded = normalise_back(shape, parameters, d_r, decoded, norm.mean, norm.rstd);
    at::Tensor d_z = d_decoded.bmm(transposed(parameters.g));
    if (two_layers) {
      const at::Tensor d_y = d_z;
      part(tape.output_rates[i]).copy_(d_y);
      at::Tensor d_x = decode_back(shape, d_y, encoder.w1);
      for (int j = 0; j < i; ++j) subtract_change_back(shape, d_x, d_y, inputs[j], part(tape.output_rates[j]));
      d_z = at::gelu_backward(d_x, z);
    }
    if (i == 0)
      change.copy_(d_z);
    else
      change.add_(d_z);
    if (i + 2 == inner) part(tape.change_before).copy_(change);
  }

  const at::Tensor out = part(tape.out);
  const at::Tensor z_q = two_layers ? part_of(tape.z_last, 1) : out;
  encode(shape, z_q, q, encoder.w0, encoder.b0);
  subtract_change(shape, z_q, q, a, change);
  if (two_layers) {
    const at::Tensor x_q = at::gelu(z_q);
    encode(shape, out, x_q, encoder.w1, encoder.b1);
    for (int j = 0; j < inner; ++j) subtract_change(shape, out, x_q, inputs[j], part(tape.output_rates[j]));
  }
  out.add_(r, kResidual);
  at::baddbmm_out(h, parameters.h_bias, out, parameters.h);

  if (losses == nullptr) return;
  Changes changes{change, inputs, {}};
  for (const at::Tensor& rate : tape.output_rates) changes.outputs.push_back(part(rate));
  losses->lafter.select(0, block).copy_(row_loss(reconstruct(shape, parameters, encoder, a, changes)));
  if (!shape.options.persistent) return;
  Shape reset = shape;
  reset.options.persistent = false;
  losses->l0.select(0, block).copy_(row_loss(reconstruct(reset, parameters, parameters.encoder, a, {})));
}

void move_encoder(const Shape& shape, const Tape& tape, std::int64_t slot, Encoder& encoder, double sign) {
  const auto part = [slot](const at::Tensor& buffer) { return buffer.select(0, slot); };
  const auto move = [&](at::Tensor& weight, at::Tensor& bias, const at::Tensor& inputs, const at::Tensor& changes) {
    const at::Tensor rows = shape.by_group(inputs), values = shape.by_group(changes);
    weight.baddbmm_(transposed(rows), values, 1, -sign);
    bias.baddbmm_(at::ones({1, 1, 1}, rows.options()).expand({rows.size(0), 1, rows.size(1)}), values, 1, -sign);
  };
  move(encoder.w0, encoder.b0, tape.aq.select(0, 0).select(0, slot), part(tape.change));
  for (std::size_t j = 0; j < tape.output_rates.size(); ++j) {
    const at::Tensor z = j < tape.z.size() ? part(tape.z[j]) : tape.z_last.select(0, 0).select(0, slot);
    move(encoder.w1, encoder.b1, at::gelu(z), part(tape.output_rates[j]));
  }
}

Gradients::Gradients(const Shape& shape, const at::TensorOptions& like) {
  const auto rows = [&](std::int64_t columns) {
    return at::empty({shape.blocks, shape.members, shape.rows(), columns}, like);
  };
  const auto pair = [&](std::int64_t columns) {
    return at::empty({2, shape.blocks, shape.members, shape.rows(), columns}, like);
  };
  d_aq = pair(shape.units);
  if (shape.options.two_layers) d_z = pair(shape.width);
  d_y = pair(shape.units);
  d_decoded = rows(shape.units);
  d_h = rows(shape.units);
}

at::Tensor backward_block(const Shape& shape, const Parameters& parameters, const Encoder& encoder, const Tape& tape,
                          Gradients& gradients, std::int64_t block) {
  const int inner = shape.options.inner_iterations;
  const bool two_layers = shape.options.two_layers;
  const auto part = [block](const at::Tensor& buffer) { return buffer.select(0, block); };
  const auto part_of = [block](const at::Tensor& pair, int which) { return pair.select(0, which).select(0, block); };
  const at::Tensor a = part_of(tape.aq, 0);
  std::vector<at::Tensor> inputs;
  if (two_layers)
    for (int j = 0; j < inner; ++j)
      inputs.push_back(at::gelu(j + 1 < inner ? part(tape.z[j]) : part_of(tape.z_last, 0)));

  // Back through one use of the encoder: its output's gradient in d_y, to the gradient at its input, in `at`. `steps`:
  // how many inner steps had changed it.
  const auto encoder_back = [&](int which, int steps) {
    const at::Tensor d_y = part_of(gradients.d_y, which);
    at::Tensor d_z = d_y;
    if (two_layers) {
      at::Tensor d_x = decode_back(shape, d_y, encoder.w1);
      for (int j = 0; j < steps; ++j)
        subtract_change_back(shape, d_x, d_y, inputs[static_cast<std::size_t>(j)],
                             part(tape.output_rates[static_cast<std::size_t>(j)]));
      d_z = part_of(gradients.d_z, which);
      at::gelu_backward_out(d_z, d_x, part_of(tape.z_last, which));
    }
    at::Tensor d_in = part_of(gradients.d_aq, which);
    at::Tensor view = shape.by_encoder(d_in);
    at::bmm_out(view, shape.by_encoder(d_z), transposed(encoder.w0));
    if (steps > 0) subtract_change_back(shape, d_in, d_z, a, part(steps == inner ? tape.change : tape.change_before));
    return d_in;
  };

  at::Tensor d_out = part_of(gradients.d_y, 1);
  at::bmm_out(d_out, part(gradients.d_h), transposed(parameters.h));
  const at::Tensor d_q = encoder_back(1, inner);
  at::Tensor d_r = d_out * kResidual;
  at::Tensor mean, rstd;
  if (shape.options.decoder_ln) {
    mean = part(tape.mean);
    rstd = part(tape.rstd);
  }
  part(gradients.d_decoded).copy_(normalise_back(shape, parameters, d_r, part(tape.decoded), mean, rstd));
  at::Tensor d_y = part_of(gradients.d_y, 0);
  at::bmm_out(d_y, part(gradients.d_decoded), transposed(parameters.g));
  const at::Tensor d_a = encoder_back(0, inner - 1);

  const auto by_sequence = [&](const at::Tensor& rows) {
    return shape.length == 1 ? rows : rows.view({shape.members, shape.batch, shape.length, shape.units}).sum(2);
  };
  return by_sequence(d_a).bmm(transposed(parameters.phi)).baddbmm_(by_sequence(d_q), transposed(parameters.psi));
}

}  // namespace tenfold::ttt_rnn_detail

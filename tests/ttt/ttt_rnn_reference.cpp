#include "tests/ttt/ttt_rnn_reference.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>

#include "datasets/philox.h"

namespace tenfold::testing {
namespace {

at::Tensor normal(const std::vector<std::int64_t>& shape, std::uint64_t site, double scale) {
  at::Tensor values = at::empty(shape, at::kFloat);
  fill_normal(RandomStream(5, Purpose::synthetic, 0, 0, site),
              std::span(values.mutable_data_ptr<float>(), static_cast<std::size_t>(values.numel())));
  return values.to(at::kDouble).mul_(scale);
}

using Weights = std::vector<at::Tensor>;  // w0, b0, w1, b1 of one encoder, (in, out) and (out)

Weights added(const Weights& a, const Weights& b) {
  Weights sum;
  for (std::size_t i = 0; i < a.size(); ++i) sum.push_back(a[i] + b[i]);
  return sum;
}

// One member of a layer.
class Reference {
 public:
  Reference(const TttRnnOptions& options, const TttRnnWeights& weights, std::int64_t k, double rate)
      : options_(options), rate_(rate) {
    const auto of = [k](const at::Tensor& tensor) { return tensor.defined() ? tensor[k] : tensor; };
    w_ = {of(weights.phi),
          of(weights.phi_bias),
          of(weights.psi),
          of(weights.psi_bias),
          of(weights.encoder0),
          of(weights.encoder0_bias),
          of(weights.encoder1),
          of(weights.encoder1_bias),
          of(weights.g),
          of(weights.g_bias),
          of(weights.h),
          of(weights.h_bias),
          of(weights.ln_weight),
          of(weights.ln_bias),
          of(weights.initial_state)};
    initial_ = {w_.encoder0, w_.encoder0_bias};
    if (options.two_layers) {
      initial_.push_back(w_.encoder1);
      initial_.push_back(w_.encoder1_bias);
    }
    for (const at::Tensor& weight : initial_) zero_.push_back(at::zeros_like(weight).detach());
  }

  // x (B, T, F), real (B, T): rows that are together in a set of fast weights. Fills states, l0, lprev, lafter by
  // [sequence][step].
  using Grid = std::vector<std::vector<at::Tensor>>;
  void run(const at::Tensor& x, const at::Tensor& real, Grid& states, Grid& l0, Grid& lprev, Grid& lafter) {
    const std::int64_t batch = x.size(0), steps = x.size(1), length = options_.window;
    const std::int64_t blocks = (steps + length - 1) / length;
    std::vector<at::Tensor> state;
    for (std::int64_t b = 0; b < batch; ++b)
      state.push_back(w_.initial_state.defined() ? w_.initial_state[0] : at::zeros({w_.g.size(0)}, at::kDouble));
    Weights change = zero_;
    for (std::int64_t n = 0; n < blocks; ++n) {
      const std::int64_t block = options_.reverse ? blocks - 1 - n : n, first = block * length;
      if (!options_.persistent) change = zero_;
      std::vector<Row> rows;
      for (std::int64_t b = 0; b < batch; ++b)
        for (std::int64_t l = 0; l < length && first + l < steps; ++l) {
          if (real[b][first + l].item<double>() == 0) continue;
          const at::Tensor u = at::cat({x[b][first + l], state[static_cast<std::size_t>(b)]});
          rows.push_back({b,
                          first + l,
                          options_.reverse ? length - 1 - l : l,
                          u.matmul(w_.phi) + w_.phi_bias,
                          u.matmul(w_.psi) + w_.psi_bias,
                          {}});
        }
      const auto note = [&](Grid& grid, const Weights& by) {
        for (const Row& row : rows) grid[row.b][row.t] = (reconstruct(row.a, by) - row.a).square().mean().detach();
      };
      note(l0, initial_);
      note(lprev, added(initial_, change));
      for (int i = 0; i < options_.inner_iterations; ++i) {
        const Weights entering = added(initial_, change);
        for (Row& row : rows) row.r = reconstruct(row.a, entering);
        std::vector<const Row*> learns;
        for (const Row& row : rows)
          if (!options_.use_sgd || length == 1 || row.order * options_.inner_iterations / length == i)
            learns.push_back(&row);
        if (!learns.empty()) change = step(learns, entering, change);
      }
      note(lafter, added(initial_, change));
      const Weights final = added(initial_, change);
      std::vector<std::int64_t> best(static_cast<std::size_t>(batch), -1);
      for (const Row& row : rows) {
        const at::Tensor h = (encode(row.q, final) + 0.1 * row.r).matmul(w_.h) + w_.h_bias;
        states[row.b][row.t] = h;
        if (row.order > best[row.b]) {
          best[row.b] = row.order;
          state[row.b] = h;
        }
      }
    }
  }

 private:
  struct Row {
    std::int64_t b, t, order;  // order: of the step in its window, in the direction of time
    at::Tensor a, q, r;
  };

  at::Tensor encode(const at::Tensor& a, const Weights& e) const {
    const at::Tensor z = a.matmul(e[0]) + e[1];
    return options_.two_layers ? at::gelu(z).matmul(e[2]) + e[3] : z;
  }
  at::Tensor reconstruct(const at::Tensor& a, const Weights& e) const {
    const at::Tensor y = encode(a, e).matmul(w_.g) + w_.g_bias;
    if (!options_.decoder_ln) return y;
    const at::Tensor centred = y - y.mean();
    return centred / (centred.square().mean() + 1e-3).sqrt() * w_.ln_weight + w_.ln_bias;
  }
  Weights step(const std::vector<const Row*>& rows, const Weights& entering, const Weights& change) const {
    at::AutoGradMode with_gradient(true);
    Weights leaves;
    for (const at::Tensor& weight : entering) leaves.push_back(weight.detach().requires_grad_(true));
    at::Tensor loss = at::zeros({}, at::kDouble);
    for (const Row* row : rows) {
      const at::Tensor a = row->a.detach();
      loss = loss + (reconstruct(a, leaves) - a).square().mean() / static_cast<double>(rows.size());
    }
    const auto gradients = torch::autograd::grad({loss}, leaves);
    Weights moved;
    for (std::size_t i = 0; i < change.size(); ++i) moved.push_back(change[i] - rate_ * gradients[i]);
    return moved;
  }

  TttRnnOptions options_;
  double rate_;
  TttRnnWeights w_;
  Weights initial_, zero_;
};

at::Tensor stacked(const Reference::Grid& grid, const at::Tensor& blank) {
  std::vector<at::Tensor> rows;
  for (const auto& row : grid) {
    std::vector<at::Tensor> cells;
    for (const at::Tensor& cell : row) cells.push_back(cell.defined() ? cell : blank);
    rows.push_back(at::stack(cells));
  }
  return at::stack(rows);
}

Outcome finish(const Example& example, const at::Tensor& states, TttRnnLosses losses) {
  // Losses at padding mean nothing.
  if (example.step_weight.defined())
    for (at::Tensor* loss : {&losses.l0, &losses.lprev, &losses.lafter}) *loss = *loss * example.step_weight;
  Outcome outcome{states.detach(), std::move(losses), {}};
  outcome.gradients = torch::autograd::grad({states}, example.leaves, {example.upstream});
  return outcome;
}

}  // namespace

TttRnnWeights Example::weights() const {
  std::size_t next = 1;
  TttRnnWeights w;
  for (at::Tensor* weight : {&w.phi, &w.phi_bias, &w.psi, &w.psi_bias, &w.encoder0, &w.encoder0_bias})
    *weight = leaves[next++];
  if (two_layers)
    for (at::Tensor* weight : {&w.encoder1, &w.encoder1_bias}) *weight = leaves[next++];
  for (at::Tensor* weight : {&w.g, &w.g_bias, &w.h, &w.h_bias}) *weight = leaves[next++];
  if (decoder_ln)
    for (at::Tensor* weight : {&w.ln_weight, &w.ln_bias}) *weight = leaves[next++];
  w.initial_state = leaves[next];
  return w;
}

Example make_example(const TttRnnOptions& options, bool masked, std::int64_t members, std::int64_t batch,
                     std::int64_t steps, std::int64_t features, std::int64_t units) {
  Example e;
  e.two_layers = options.two_layers;
  e.decoder_ln = options.decoder_ln;
  std::uint64_t site = 0;
  const auto leaf = [&](const std::string& name, std::vector<std::int64_t> shape, double scale, double shift = 0) {
    shape.insert(shape.begin(), members);
    e.names.push_back(name);
    e.leaves.push_back(normal(shape, ++site, scale).add_(shift).requires_grad_(true));
  };
  const std::int64_t width = options.two_layers ? 4 * units : units;
  // Without a norm behind it the inner loss has no bound, and large weights or steps diverge.
  const double scale = options.decoder_ln ? 0.5 : 0.25;
  leaf("x", {batch, steps, features}, 1);
  leaf("phi", {features + units, units}, scale);
  leaf("phi bias", {units}, 0.3);
  leaf("psi", {features + units, units}, scale);
  leaf("psi bias", {units}, 0.3);
  leaf("encoder 0", {units, width}, 0.5);
  leaf("encoder 0 bias", {width}, 0.3);
  if (options.two_layers) {
    leaf("encoder 1", {width, units}, 0.3);
    leaf("encoder 1 bias", {units}, 0.3);
  }
  leaf("g", {units, units}, scale);
  leaf("g bias", {units}, 0.3);
  leaf("h", {units, units}, scale);
  leaf("h bias", {units}, 0.3);
  if (options.decoder_ln) {
    leaf("ln weight", {units}, 0.2, 1);
    leaf("ln bias", {units}, 0.2);
  }
  leaf("initial state", {1, units}, 0.5);
  e.x = e.leaves.front();
  e.base_lr =
      at::tensor({0.3, 0.1, 0.2, 0.05, 0.4}, at::kDouble).narrow(0, 0, members).mul(options.decoder_ln ? 1 : 0.05);
  e.upstream = normal({members, batch, steps, units}, 99, 1);
  if (masked) {
    e.step_weight = at::ones({members, batch, steps}, at::kDouble);
    for (std::int64_t k = 0; k < members; ++k)
      for (std::int64_t b = 0; b < batch; ++b) {
        // All, some, none and one of the steps.
        const std::int64_t real =
            std::array<std::int64_t, 4>{steps, steps - 2 - k, 0, 1}[static_cast<std::size_t>(b % 4)];
        e.step_weight[k][b].narrow(0, real, steps - real).zero_();
      }
  }
  return e;
}

Outcome run_layer(const Example& example, const TttRnnOptions& options) {
  TttRnnLosses losses;
  const at::Tensor states =
      ttt_rnn(example.x, example.weights(), example.base_lr, example.step_weight, options, &losses);
  return finish(example, states, losses);
}

Outcome run_reference(const Example& example, const TttRnnOptions& options) {
  const std::int64_t members = example.x.size(0), batch = example.x.size(1), steps = example.x.size(2);
  const at::Tensor real =
      example.step_weight.defined() ? example.step_weight : at::ones({members, batch, steps}, at::kDouble);
  std::vector<at::Tensor> states, l0, lprev, lafter;
  const std::int64_t units = example.upstream.size(3);
  const at::Tensor zero = at::zeros({}, at::kDouble), no_state = at::zeros({units}, at::kDouble);
  for (std::int64_t k = 0; k < members; ++k) {
    Reference reference(options, example.weights(), k, example.base_lr[k].item<double>());
    const auto grid = [&] {
      return Reference::Grid(static_cast<std::size_t>(batch), std::vector<at::Tensor>(static_cast<std::size_t>(steps)));
    };
    Reference::Grid h = grid(), first = grid(), before = grid(), after = grid();
    if (!options.per_sequence) {
      reference.run(example.x[k], real[k], h, first, before, after);
    } else {
      for (std::int64_t b = 0; b < batch; ++b) {  // a batch of one
        const auto of = [b](Reference::Grid& all) { return Reference::Grid{all[static_cast<std::size_t>(b)]}; };
        Reference::Grid own_h = of(h), own_first = of(first), own_before = of(before), own_after = of(after);
        reference.run(example.x[k].narrow(0, b, 1), real[k].narrow(0, b, 1), own_h, own_first, own_before, own_after);
        const auto row = static_cast<std::size_t>(b);
        h[row] = own_h[0], first[row] = own_first[0], before[row] = own_before[0], after[row] = own_after[0];
      }
    }
    states.push_back(stacked(h, no_state));
    l0.push_back(stacked(first, zero));
    lprev.push_back(stacked(before, zero));
    lafter.push_back(stacked(after, zero));
  }
  return finish(example, at::stack(states), {at::stack(l0), at::stack(lprev), at::stack(lafter), {}});
}

double relative_error(const at::Tensor& got, const at::Tensor& expected) {
  const at::Tensor a = got.detach().to(at::kDouble), b = expected.detach().to(at::kDouble);
  if (a.sizes() != b.sizes()) return 1e30;
  const double error = (a - b).abs().max().item<double>();
  return std::isfinite(error) ? error / std::max(1e-12, b.abs().max().item<double>()) : 1e30;
}

}  // namespace tenfold::testing

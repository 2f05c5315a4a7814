#include "ttt/inner_loop_group.h"

#include <ATen/ATen.h>

#include "ttt/smooth.h"

namespace tenfold::inner {
namespace {

// x taken back through the layer norm of z: inverse_sd * (x - mean(x) - xhat * mean(x xhat)).
at::Tensor through_norm(const at::Tensor& x, const at::Tensor& z, const at::Tensor& mean,
                        const at::Tensor& inverse_sd) {
  return std::get<0>(
      at::native_layer_norm_backward(x, z, {z.size(-1)}, mean, inverse_sd, {}, {}, {true, false, false}));
}

// Gradient g at Z of 1/2 sum (norm(Z) - Y)^2: d = pull + scale * xhat taken back through the layer norm. Its own
// gradient by hand, because the library's second derivative of a layer norm is thirty small operations. For an upstream
// G, with p = G through the norm, the gradient at d is p, the one at xhat
//   scale p - inverse_sd (mean(d xhat) G + mean(G xhat) d) =: x
// and at Z it is x through the norm and, as inverse_sd depends on Z too, - inverse_sd mean(G g) xhat.
class LossGradient : public torch::autograd::Function<LossGradient> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& z, const at::Tensor& pull,
                            const at::Tensor& scale, double eps) {
    const auto [xhat, mean, inverse_sd] = at::native_layer_norm(z, {z.size(-1)}, {}, {}, eps);
    const at::Tensor g = through_norm(at::addcmul(pull, xhat, scale), z, mean, inverse_sd);
    context->save_for_backward({z, pull, scale, xhat, mean, inverse_sd, g});
    return g;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& outputs) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &z = saved[0], &pull = saved[1], &scale = saved[2], &xhat = saved[3], &mean = saved[4];
    const at::Tensor &inverse_sd = saved[5], &g = saved[6], &upstream = outputs[0];
    const at::Tensor d = at::addcmul(pull, xhat, scale), p = through_norm(upstream, z, mean, inverse_sd);
    const at::Tensor crossed = (d * xhat).mean(-1, true) * upstream + (upstream * xhat).mean(-1, true) * d;
    const at::Tensor at_xhat = at::addcmul(scale * p, crossed, inverse_sd, -1);
    const at::Tensor at_z =
        at::addcmul(through_norm(at_xhat, z, mean, inverse_sd), xhat, inverse_sd * (upstream * g).mean(-1, true), -1);
    return {at_z, p, (p * xhat).sum(1, true), at::Tensor()};
  }
};

at::Tensor loss_gradient(const at::Tensor& z, const at::Tensor& pull, const at::Tensor& scale, double eps) {
  return LossGradient::apply(z, pull, scale, eps);
}

// What the reconstruction of the keys at the start of a mini-batch gives: G_j of layer i is inputs[i]_j^T
// gradients[i]_j.
struct KeyPass {
  std::vector<at::Tensor> inputs;     // (N, l, in) of each layer
  std::vector<at::Tensor> gradients;  // (N, l, out) at each layer's output
  at::Tensor clipped;
};

void clip(KeyPass& pass, double clip_norm) {
  at::Tensor squared;  // |G_j|^2 over all layers' weights and biases, (N, l, 1)
  for (std::size_t i = 0; i < pass.inputs.size(); ++i) {
    const at::Tensor layer = (pass.inputs[i].square().sum(-1, true) + 1) * pass.gradients[i].square().sum(-1, true);
    squared = squared.defined() ? squared + layer : layer;
  }
  const at::Tensor scale = (clip_norm * (squared + 1e-30).rsqrt()).clamp_max(1);
  for (at::Tensor& gradient : pass.gradients) gradient = gradient * scale;
  pass.clipped = (squared.detach() > clip_norm * clip_norm).squeeze(-1);
}

KeyPass learn_keys(const at::Tensor& k, const at::Tensor& pull, const at::Tensor& weight_scale, const FastWeights& fast,
                   const Rules& rules) {
  const std::size_t layers = fast.weights.size();
  KeyPass pass;
  pass.inputs = {k};
  pass.gradients.resize(layers);
  std::vector<at::Tensor> z;
  for (std::size_t i = 0; i < layers; ++i) {
    z.push_back(at::baddbmm(fast.biases[i], pass.inputs[i], fast.weights[i]));
    if (i + 1 < layers) pass.inputs.push_back(inner::gelu(z[i]));
  }
  pass.gradients.back() = loss_gradient(z.back(), pull, weight_scale, rules.eps);
  for (std::size_t i = layers - 1; i-- > 0;)
    pass.gradients[i] = inner::gelu_backward(at::bmm(pass.gradients[i + 1], fast.weights[i + 1].transpose(1, 2)), z[i]);
  if (rules.clip_norm) clip(pass, *rules.clip_norm);
  return pass;
}

// (x^T weighted by rate) gradient added to `to` with `sign`: weights and biases of layer i.
void accumulate(FastWeights& to, const FastWeights& from, const KeyPass& pass, const at::Tensor& rate, double sign) {
  const at::Tensor per_token = rate.transpose(1, 2);  // (N, l, 1)
  for (std::size_t i = 0; i < pass.inputs.size(); ++i) {
    const at::Tensor rated = (pass.inputs[i] * per_token).transpose(1, 2);
    to.weights[i] = at::baddbmm(from.weights[i], rated, pass.gradients[i], 1, sign);
    to.biases[i] = at::baddbmm(from.biases[i], rate, pass.gradients[i], 1, sign);
  }
}

FastWeights zeros_like(const FastWeights& like) {
  FastWeights zero;
  for (const at::Tensor& weight : like.weights) zero.weights.push_back(at::zeros_like(weight));
  for (const at::Tensor& bias : like.biases) zero.biases.push_back(at::zeros_like(bias));
  return zero;
}

struct MiniBatch {
  at::Tensor q, k, pull, rate, last_rate, last_row, eta, attention;
};

// Z of the queries, token i at W_i, in the dual form: no weights per token are formed.
at::Tensor answer_queries(const MiniBatch& batch, const at::Tensor& row, const FastWeights& fast,
                          const FastWeights& sums, const KeyPass& pass) {
  at::Tensor u = batch.q, z;
  for (std::size_t i = 0; i < fast.weights.size(); ++i) {
    if (i > 0) u = inner::gelu(z);
    // The one beside u x^T is the bias' input.
    const at::Tensor attention =
        i == 0 ? batch.attention
               : at::baddbmm(at::ones({1, 1, 1}, u.options()), u, pass.inputs[i].transpose(1, 2)) * batch.eta;
    z = at::baddbmm(at::baddbmm(fast.biases[i], u, fast.weights[i]), attention, pass.gradients[i], 1, -1);
    if (!sums.weights.empty()) z = z - row * at::baddbmm(sums.biases[i], u, sums.weights[i]);
  }
  return z;
}

// Slices over mini-batches, whose gradients are put together in one operation.
std::vector<at::Tensor> each(const at::Tensor& stacked) {
  return stacked.defined() ? stacked.unbind(0) : std::vector<at::Tensor>();
}

}  // namespace

FastWeights moved(const FastWeights& fast, const FastWeights& sums, const at::Tensor& c) {
  FastWeights after = fast;
  for (std::size_t i = 0; i < fast.weights.size(); ++i) {
    after.weights[i] = fast.weights[i] - c * sums.weights[i];
    after.biases[i] = fast.biases[i] - c * sums.biases[i];
  }
  return after;
}

at::Tensor predict(const FastWeights& fast, const at::Tensor& x) {
  at::Tensor z = at::baddbmm(fast.biases[0], x, fast.weights[0]);
  for (std::size_t i = 1; i < fast.weights.size(); ++i)
    z = at::baddbmm(fast.biases[i], inner::gelu(z), fast.weights[i]);
  return z;
}

GroupResult run_group(const Tokens& tokens, const FastWeights& start, const FastWeights& sums, const Rules& rules,
                      const Observer& observer) {
  const std::int64_t n = tokens.q.size(0);
  // The queries and keys enter the first layer as they are, so their products are taken for all mini-batches at once.
  const at::Tensor products = at::baddbmm(at::ones({1, 1, 1}, tokens.q.options()), tokens.q.flatten(0, 1),
                                          tokens.k.flatten(0, 1).transpose(1, 2));
  const auto q = each(tokens.q), k = each(tokens.k), pull = each(tokens.pull), rate = each(tokens.rate);
  const auto last_rate = each(tokens.last_rate), last_row = each(tokens.last_row), eta = each(tokens.eta);
  const auto attention = each(products.view_as(tokens.eta) * tokens.eta);
  GroupResult result{{}, start, {}, {}};
  std::vector<at::Tensor> z, clipped;
  for (std::int64_t i = 0; i < n; ++i) {
    const MiniBatch batch{q[i],    k[i],         pull[i],
                          rate[i], last_rate[i], last_row.empty() ? at::Tensor() : last_row[i],
                          eta[i],  attention[i]};
    const KeyPass pass = learn_keys(batch.k, batch.pull, tokens.weight_scale, result.weights, rules);
    z.push_back(answer_queries(batch, tokens.row, result.weights, sums, pass));
    if (pass.clipped.defined()) clipped.push_back(pass.clipped);
    if (!rules.closes) {
      result.sums = sums.weights.empty() ? zeros_like(start) : sums;
      accumulate(result.sums, result.sums, pass, batch.rate, 1);
      break;
    }
    if (i + 1 == n && !rules.moves && !observer) break;
    FastWeights after = sums.weights.empty() ? result.weights : moved(result.weights, sums, batch.last_row);
    accumulate(after, after, pass, batch.last_rate, -1);
    if (observer) observer(i, result.weights, after);
    result.weights = std::move(after);
  }
  result.z = at::stack(z);
  if (!clipped.empty()) result.clipped = at::stack(clipped);
  return result;
}

}  // namespace tenfold::inner

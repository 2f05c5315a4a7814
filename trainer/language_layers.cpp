#include "trainer/language_layers.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <limits>
#include <optional>

namespace tenfold::layers {
namespace {

// Rows of an embedding on a GPU. The library's gradient synchronises with the host or adds with atomics; a product with
// the one-hot tokens does neither. It costs what a linear layer does, so large vocabularies take the atomics.
constexpr std::int64_t kOneHotVocabulary = 1024;

class EmbedOnGpu : public torch::autograd::Function<EmbedOnGpu> {
 public:
  // tokens (K, N), weight (K, V, D) -> (K, N, D)
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& tokens,
                            const at::Tensor& weight) {
    context->save_for_backward({tokens});
    context->saved_data["vocabulary"] = weight.size(1);
    return weight.gather(1, tokens.unsqueeze(-1).expand({-1, -1, weight.size(2)}));
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& outputs) {
    const at::Tensor tokens = context->get_saved_variables()[0];
    const at::Tensor& upstream = outputs[0];
    const std::int64_t vocabulary = context->saved_data["vocabulary"].toInt();
    if (vocabulary <= kOneHotVocabulary) {
      const at::Tensor row = at::arange(vocabulary, tokens.options()).view({1, vocabulary, 1});
      return {at::Tensor(), row.eq(tokens.unsqueeze(1)).to(upstream.scalar_type()).bmm(upstream)};
    }
    const at::Tensor place = tokens.unsqueeze(-1).expand({-1, -1, upstream.size(2)});
    return {
        at::Tensor(),
        at::zeros({tokens.size(0), vocabulary, upstream.size(2)}, upstream.options()).scatter_add(1, place, upstream)};
  }
};

// x * weight + bias for x (K, N, F) and (K, F). Gradients are sums over rows as matrix products: the library's sum over
// a middle dimension is in an order that depends on K.
class ScaleRows : public torch::autograd::Function<ScaleRows> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias) {
    context->save_for_backward({x, weight});
    context->saved_data["needs"] =
        std::vector<bool>{x.requires_grad(), weight.requires_grad(), bias && bias->requires_grad()};
    const at::Tensor scaled = x * weight.unsqueeze(1);
    return bias ? scaled + bias->unsqueeze(1) : scaled;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& outputs) {
    const auto saved = context->get_saved_variables();
    const auto needs = context->saved_data["needs"].toBoolList();
    const at::Tensor &x = saved[0], &weight = saved[1], &upstream = outputs[0];
    const at::Tensor ones = at::ones({1, 1, 1}, x.options()).expand({x.size(0), 1, x.size(1)});
    const auto summed = [&](const at::Tensor& rows) { return ones.bmm(rows).squeeze(1); };
    return {needs.get(0) ? upstream * weight.unsqueeze(1) : at::Tensor(),
            needs.get(1) ? summed(upstream * x) : at::Tensor(), needs.get(2) ? summed(upstream) : at::Tensor()};
  }
};

at::Tensor scale_rows(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  return ScaleRows::apply(x.reshape({x.size(0), -1, x.size(-1)}), weight, bias).view(x.sizes());
}

// silu(gate) * up from exponentials and exact arithmetic: the library's silu rounds the last few values of a tensor
// otherwise than the others, so that a member's bits would depend on its place in the array.
class SwigluOnCpu : public torch::autograd::Function<SwigluOnCpu> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& gate, const at::Tensor& up) {
    context->save_for_backward({gate, up});
    return gate * up * logistic(gate);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& outputs) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &gate = saved[0], &up = saved[1];
    const at::Tensor open = logistic(gate), through = outputs[0] * open;
    return {through * up * (gate * (1 - open) + 1), through * gate};
  }

 private:
  static at::Tensor logistic(const at::Tensor& x) { return x.neg().exp_().add_(1).reciprocal_(); }
};

}  // namespace

at::Tensor embed(const at::Tensor& tokens, const at::Tensor& weight) {
  const std::int64_t members = weight.size(0), vocabulary = weight.size(1), width = weight.size(2);
  const std::vector<std::int64_t> shape = {members, tokens.size(1), tokens.size(2), width};
  if (!weight.is_cpu()) return EmbedOnGpu::apply(tokens.flatten(1), weight).view(shape);
  const at::Tensor first = at::arange(members, tokens.options()).mul_(vocabulary).view({members, 1, 1});
  return at::embedding(weight.flatten(0, 1), tokens + first);
}

at::Tensor project(const at::Tensor& x, const at::Tensor& weight) {
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.back() = weight.size(1);
  return at::bmm(x.reshape({x.size(0), -1, x.size(-1)}), weight.transpose(1, 2)).view(shape);
}

at::Tensor project_lora(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& a, const at::Tensor& b,
                        double scaling) {
  return at::add(project(x, weight), project(project(x, a), b), scaling);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return scale_rows(x * ((x * x).mean(-1, true) + eps).rsqrt(), weight, std::nullopt);
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps) {
  return scale_rows(at::layer_norm(x, {x.size(-1)}, {}, {}, eps), weight, bias);
}

at::Tensor scale(const at::Tensor& x, const at::Tensor& weight) { return scale_rows(x, weight, std::nullopt); }

Rotation rotation(const at::Tensor& positions, std::int64_t head_width, double base, at::ScalarType type) {
  const at::Tensor pair = at::arange(head_width / 2, positions.options().dtype(at::kDouble));
  const at::Tensor frequency = (pair * (-2.0 * std::log(base) / static_cast<double>(head_width))).exp();
  const at::Tensor angle = positions.to(at::kDouble).unsqueeze(-1) * frequency;
  return {angle.cos().to(type), angle.sin().to(type)};
}

at::Tensor rotate_halves(const at::Tensor& x, const Rotation& rotation) {
  const std::int64_t half = x.size(-1) / 2;
  const at::Tensor a = x.narrow(-1, 0, half), b = x.narrow(-1, half, half);
  return at::cat({a * rotation.cosine - b * rotation.sine, b * rotation.cosine + a * rotation.sine}, -1);
}

at::Tensor split_heads(const at::Tensor& x, std::int64_t heads) {
  return x.unflatten(-1, {heads, x.size(-1) / heads}).transpose(2, 3).contiguous();
}

at::Tensor join_heads(const at::Tensor& x) { return x.transpose(2, 3).flatten(-2); }

at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  if (q.is_cpu()) return window_attention(q, k, v, q.size(3));
  return at::scaled_dot_product_attention(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), {}, 0.0,
                                          /*is_causal=*/true)
      .view(q.sizes());
}

// Matrix products and a softmax: the same bits in any array, which the library's attention does not promise.
at::Tensor window_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t window) {
  const std::int64_t queries = q.size(3), keys = k.size(3);
  const at::Tensor place = at::arange(keys, q.options().dtype(at::kLong));
  const at::Tensor own = place.narrow(0, keys - queries, queries).unsqueeze(-1);  // (T, 1)
  const at::Tensor hidden =
      at::zeros({queries, keys}, q.options())
          .masked_fill(place.gt(own).logical_or(place.le(own - window)), -std::numeric_limits<double>::infinity());
  const at::Tensor scores = at::baddbmm(hidden, q.flatten(0, 2), k.flatten(0, 2).transpose(1, 2), /*beta=*/1,
                                        /*alpha=*/1 / std::sqrt(static_cast<double>(q.size(-1))));
  return at::softmax(scores, -1).bmm(v.flatten(0, 2)).view(q.sizes());
}

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  return gate.is_cpu() ? SwigluOnCpu::apply(gate, up) : at::silu(gate) * up;
}

}  // namespace tenfold::layers

#include <ATen/ATen.h>

#include "ttt/inner_loop_group.h"

// Gradient checkpointing over groups of mini-batches: the backward pass computes a group again before it goes through
// it.
namespace tenfold::inner {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr std::size_t kTokenTensors = 7;

variable_list packed(const Tokens& tokens, const FastWeights& start) {
  variable_list list{tokens.q, tokens.k, tokens.pull, tokens.rate, tokens.eta, tokens.last_rate, tokens.weight_scale};
  list.insert(list.end(), start.weights.begin(), start.weights.end());
  list.insert(list.end(), start.biases.begin(), start.biases.end());
  return list;
}

struct Arguments {
  Tokens tokens;
  FastWeights start;
};

Arguments unpacked(const variable_list& list) {
  Arguments arguments;
  Tokens& tokens = arguments.tokens;
  tokens.q = list[0];
  tokens.k = list[1];
  tokens.pull = list[2];
  tokens.rate = list[3];
  tokens.eta = list[4];
  tokens.last_rate = list[5];
  tokens.weight_scale = list[6];
  const auto first = list.begin() + kTokenTensors;
  const auto middle = first + (list.end() - first) / 2;
  arguments.start.weights.assign(first, middle);
  arguments.start.biases.assign(middle, list.end());
  return arguments;
}

// Outputs: z, weights, biases, clipped (only with clip_norm; no gradient).
variable_list flat(const GroupResult& result) {
  variable_list list{result.z};
  list.insert(list.end(), result.weights.weights.begin(), result.weights.weights.end());
  list.insert(list.end(), result.weights.biases.begin(), result.weights.biases.end());
  if (result.clipped.defined()) list.push_back(result.clipped);
  return list;
}

class RecomputedGroup : public torch::autograd::Function<RecomputedGroup> {
 public:
  static variable_list forward(AutogradContext* context, at::TensorList arguments, const Rules& rules,
                               const Observer* observer) {
    const variable_list list = arguments.vec();
    context->save_for_backward(list);
    context->saved_data["eps"] = rules.eps;
    context->saved_data["clip_norm"] = rules.clip_norm;
    const auto [tokens, start] = unpacked(list);
    const GroupResult result = run_group(tokens, start, {}, rules, *observer);
    if (result.clipped.defined()) context->mark_non_differentiable({result.clipped});
    return flat(result);
  }

  static variable_list backward(AutogradContext* context, const variable_list& output_gradients) {
    variable_list arguments, inputs, outputs, gradients_of_outputs;
    for (const at::Tensor& saved : context->get_saved_variables())
      arguments.push_back(saved.detach().requires_grad_(saved.requires_grad()));
    Rules rules;
    rules.eps = context->saved_data["eps"].toDouble();
    rules.clip_norm = context->saved_data["clip_norm"].toOptional<double>();
    {
      at::AutoGradMode with_gradients(true);
      const auto [tokens, start] = unpacked(arguments);
      const variable_list all = flat(run_group(tokens, start, {}, rules, {}));
      for (std::size_t i = 0; i < all.size(); ++i)
        if (all[i].requires_grad() && output_gradients[i].defined()) {
          outputs.push_back(all[i]);
          gradients_of_outputs.push_back(output_gradients[i]);
        }
    }
    for (const at::Tensor& argument : arguments)
      if (argument.requires_grad()) inputs.push_back(argument);
    const variable_list found = torch::autograd::grad(outputs, inputs, gradients_of_outputs, false, false, true);
    variable_list result;
    std::size_t next = 0;
    for (const at::Tensor& argument : arguments)
      result.push_back(argument.requires_grad() ? found[next++] : at::Tensor());
    result.resize(result.size() + 2);  // rules, observer
    return result;
  }
};

}  // namespace

GroupResult run_in_groups(const Tokens& tokens, const FastWeights& start, const Rules& rules, std::int64_t group,
                          const Observer& observer) {
  const auto parts = [&](const at::Tensor& stacked) { return stacked.split(group, 0); };
  const auto q = parts(tokens.q), k = parts(tokens.k), pull = parts(tokens.pull), rate = parts(tokens.rate);
  const auto eta = parts(tokens.eta), last_rate = parts(tokens.last_rate);
  GroupResult result{{}, start, {}, {}};
  std::vector<at::Tensor> z, clipped;
  const std::size_t layers = start.weights.size();
  for (std::size_t i = 0; i < q.size(); ++i) {
    Tokens part{q[i], k[i], pull[i], rate[i], last_rate[i], {}, eta[i], {}, tokens.weight_scale};
    Rules part_rules = rules;
    part_rules.moves = rules.moves || i + 1 < q.size();
    const std::int64_t first = static_cast<std::int64_t>(i) * group;
    const Observer shifted = [&](std::int64_t index, const FastWeights& before, const FastWeights& after) {
      observer(first + index, before, after);
    };
    const Observer none;
    const variable_list out =
        RecomputedGroup::apply(at::TensorList(packed(part, result.weights)), part_rules, observer ? &shifted : &none);
    z.push_back(out[0]);
    result.weights.weights.assign(out.begin() + 1, out.begin() + 1 + layers);
    result.weights.biases.assign(out.begin() + 1 + layers, out.begin() + 1 + 2 * layers);
    if (rules.clip_norm) clipped.push_back(out.back());
  }
  result.z = at::cat(z);
  if (!clipped.empty()) result.clipped = at::cat(clipped);
  return result;
}

}  // namespace tenfold::inner

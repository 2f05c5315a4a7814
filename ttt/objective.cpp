#include "ttt/objective.h"

#include <ATen/ATen.h>

#include <vector>

#include "experiments/error.h"

namespace tenfold {

EntropyTerms entropy_terms(const at::Tensor& logits, const at::Tensor& sample_weight, double eps,
                           const SumOverRanks& sum) {
  at::NoGradGuard no_grad;
  EntropyTerms terms;
  terms.eps = eps;
  terms.p = at::softmax(logits, -1);  // (K, B, C)
  terms.log_p = (terms.p + eps).log_();
  const at::Tensor entropy = (terms.p * terms.log_p).sum(-1, true);  // (K, B, 1), negative
  if (sum) {
    // One sum for all: of weights, entropies and probabilities.
    const at::Tensor parts = sample_weight.unsqueeze(1).bmm(at::cat({at::ones_like(entropy), entropy, terms.p}, -1));
    const at::Tensor whole = sum(parts.squeeze(1));  // (K, 2 + C)
    const at::Tensor count = whole.narrow(-1, 0, 1);
    terms.share = sample_weight / count.clamp_min(1);
    terms.real = (count.squeeze(-1) > 0).to(logits.scalar_type());
    const at::Tensor means = whole / count.clamp_min(1);
    terms.entropy = means.select(-1, 1).neg();
    terms.mean_probability = means.narrow(-1, 2, logits.size(-1)).contiguous();
    terms.mean_entropy = (terms.mean_probability * (terms.mean_probability + eps).log_()).sum(-1).neg_();
    return terms;
  }
  terms.share = sample_weight / sample_weight.sum(-1, true).clamp_min(1);
  terms.real = (sample_weight.select(-1, 0) > 0).to(logits.scalar_type());
  // Weighted means as matrix products: a reduction over the middle dimension would sum in an order that depends on
  // the tensor's shape, and so on the size of the array.
  const at::Tensor row = terms.share.unsqueeze(1);  // (K, 1, B)
  terms.entropy = row.bmm(entropy).flatten().neg_();
  terms.mean_probability = row.bmm(terms.p).squeeze(1);  // (K, C)
  terms.mean_entropy = (terms.mean_probability * (terms.mean_probability + eps).log_()).sum(-1).neg_();
  return terms;
}

at::Tensor entropy_gradient(const EntropyTerms& terms, const at::Tensor& scale) {
  at::NoGradGuard no_grad;
  const auto slope = [&](const at::Tensor& p, const at::Tensor& log_p) { return at::addcdiv(log_p, p, p + terms.eps); };
  const at::Tensor& mean = terms.mean_probability;
  const at::Tensor of_mean = slope(mean, (mean + terms.eps).log_()) * scale.unsqueeze(-1);  // (K, C)
  const at::Tensor g = of_mean.unsqueeze(1) - slope(terms.p, terms.log_p);                  // (K, B, C)
  const at::Tensor along = (terms.p * g).sum(-1, true);
  return (g - along).mul_(terms.p).mul_(terms.share.unsqueeze(-1));
}

at::Tensor per_member(std::span<const TttSpec> members, double (*value)(const TttSpec&), const at::Device& device) {
  std::vector<float> values;
  for (const TttSpec& member : members) values.push_back(static_cast<float>(value(member)));
  return at::tensor(values, at::kFloat).to(device);
}

std::unique_ptr<Objective> make_objective(const std::string& method, std::span<const TttSpec> members,
                                          const at::Device& device) {
  if (method == "source" || method == "bn") return nullptr;
  if (method == "entropy_diversity") return make_entropy_diversity(members, device);
  if (method == "tent") return make_tent();
  if (method == "shot_im") return make_shot_im();
  throw Error(ErrorKind::internal, "no objective is called " + method);
}

}  // namespace tenfold

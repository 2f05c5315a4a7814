#include "ttt/objective.h"

#include <ATen/ATen.h>

#include <vector>

#include "experiments/error.h"

namespace tenfold {

EntropyTerms entropy_terms(const at::Tensor& logits, const at::Tensor& sample_weight, double eps) {
  const at::Tensor p = at::softmax(logits, -1);  // (K, B, C)
  const at::Tensor entropy = (p * (p + eps).log()).sum(-1);  // (K, B), negative
  const at::Tensor count = sample_weight.sum(-1, /*keepdim=*/true).clamp_min(1);  // (K, 1)
  const at::Tensor share = (sample_weight / count).unsqueeze(1);  // (K, 1, B)
  // Weighted means as matrix products: a reduction over the middle dimension would sum in an order that depends on
  // the tensor's shape, and so on the size of the array.
  const at::Tensor mean = share.bmm(p).squeeze(1);                                 // (K, C)
  const at::Tensor mean_entropy = (mean * (mean + eps).log()).sum(-1).neg();       // (K)
  return {share.bmm(entropy.unsqueeze(-1)).flatten().neg(), mean_entropy, mean.detach()};
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

#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "experiments/spec.h"

namespace tenfold {

// Where a batch is spread over several processes: the sum of their tensors. Empty where it is not.
using SumOverRanks = std::function<at::Tensor(const at::Tensor&)>;

// What an objective says of one batch of each member.
struct BatchObjective {
  at::Tensor total;             // (K) what the optimizer minimises, nats
  at::Tensor entropy;           // (K) mean over the real samples of H(p), nats
  at::Tensor diversity;         // (K) 1 - H(pbar)/log C, in [0, 1]
  at::Tensor diversity_weight;  // (K) the weight that `total` gave it
  at::Tensor mean_probability;  // (K, C) pbar
  at::Tensor logit_gradient;    // (K, B, C) d total[k] / d logits[k], the weight held; 0 for padding
};

// An unsupervised loss on the logits of a batch, with its gradient at the logits. Labels never come near it. To add
// one: a file with a class and a line in make_objective; its name and its defaults go to experiments/ (spec_fields.h,
// method_defaults.cpp).
class Objective {
 public:
  virtual ~Objective() = default;
  // logits: (K, B, C), detached; sample_weight: (K, B), 1 for a real sample, 0 for padding, which comes last. A batch
  // without real samples gives zeros. Members do not mix: a NaN in one reaches no other. With `sum`, logits are a part
  // of the batch, and all but the gradient is of the whole.
  virtual BatchObjective evaluate(const at::Tensor& logits, const at::Tensor& sample_weight,
                                  const SumOverRanks& sum = {}) const = 0;
};

// members: one TttSpec per member, method equal in all. Null for methods without a loss (source, bn).
std::unique_ptr<Objective> make_objective(const std::string& method, std::span<const TttSpec> members,
                                          const at::Device& device);

// Shared by the objectives: entropies of a batch and of its mean prediction, and what their gradients are made of.
struct EntropyTerms {
  at::Tensor entropy;           // (K)
  at::Tensor mean_entropy;      // (K) H(pbar), nats
  at::Tensor mean_probability;  // (K, C)
  at::Tensor real;              // (K) 1 where the batch has a real sample
  at::Tensor p, log_p;          // (K, B, C) softmax and log(p + eps)
  at::Tensor share;             // (K, B) sample_weight over the number of real samples
  double eps;
};
// entropy = mean_b(-sum_c p log(p + eps)), H(pbar) likewise, p = softmax(logits); means over real samples.
EntropyTerms entropy_terms(const at::Tensor& logits, const at::Tensor& sample_weight, double eps,
                           const SumOverRanks& sum = {});

// d/d logits of: entropy - scale * H(pbar), scale (K). With u = log(p+eps) + p/(p+eps) and v the same of pbar,
// d/dp[b,c] = share_b (scale v_c - u_bc), and through the softmax dz = p (g - sum_c p g).
at::Tensor entropy_gradient(const EntropyTerms& terms, const at::Tensor& scale);

// One value per member as a (K) float tensor.
at::Tensor per_member(std::span<const TttSpec> members, double (*value)(const TttSpec&), const at::Device& device);

std::unique_ptr<Objective> make_entropy_diversity(std::span<const TttSpec> members, const at::Device& device);
std::unique_ptr<Objective> make_tent();
std::unique_ptr<Objective> make_shot_im();

}  // namespace tenfold

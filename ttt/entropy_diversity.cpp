#include <ATen/ATen.h>

#include <cmath>

#include "ttt/objective.h"

namespace tenfold {
namespace {

// total = entropy + w * diversity, diversity = 1 - H(pbar)/log C, eps 1e-8. With the adaptive weight, where
// h = H(pbar)/log C < target: w = min(w + slope (target - h), max).
class EntropyDiversity final : public Objective {
 public:
  EntropyDiversity(std::span<const TttSpec> members, const at::Device& device)
      : weight_(per_member(
            members, [](const TttSpec& t) { return t.diversity_weight; }, device)),
        target_(per_member(
            members, [](const TttSpec& t) { return t.adaptive_weight.target; }, device)),
        slope_(per_member(
            members, [](const TttSpec& t) { return t.adaptive_weight.slope; }, device)),
        max_(per_member(
            members, [](const TttSpec& t) { return t.adaptive_weight.max; }, device)),
        enabled_(per_member(
                     members, [](const TttSpec& t) { return t.adaptive_weight.enabled ? 1.0 : 0.0; }, device)
                     .to(at::kBool)) {
    for (const TttSpec& member : members) any_adaptive_ |= member.adaptive_weight.enabled;
  }

  BatchObjective evaluate(const at::Tensor& logits, const at::Tensor& sample_weight,
                          const SumOverRanks& sum) const override {
    at::NoGradGuard no_grad;
    const EntropyTerms terms = entropy_terms(logits, sample_weight, 1e-8, sum);
    const double log_classes = std::log(static_cast<double>(logits.size(-1)));
    const at::Tensor h = terms.mean_entropy / log_classes;
    const at::Tensor diversity = (1 - h) * terms.real;
    at::Tensor weight = weight_;
    if (any_adaptive_) {
      const at::Tensor shortfall = target_ - h;
      const at::Tensor raised = at::minimum(weight_ + slope_ * shortfall, max_);
      weight = at::where(enabled_.logical_and(shortfall > 0), raised, weight_);
    }
    return {terms.entropy + weight * diversity,           terms.entropy, diversity, weight, terms.mean_probability,
            entropy_gradient(terms, weight / log_classes)};
  }

 private:
  at::Tensor weight_, target_, slope_, max_, enabled_;  // (K)
  bool any_adaptive_ = false;
};

}  // namespace

std::unique_ptr<Objective> make_entropy_diversity(std::span<const TttSpec> members, const at::Device& device) {
  return std::make_unique<EntropyDiversity>(members, device);
}

}  // namespace tenfold

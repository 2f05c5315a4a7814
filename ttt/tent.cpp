#include <ATen/ATen.h>

#include <cmath>

#include "ttt/objective.h"

namespace tenfold {
namespace {

// total = entropy (Wang et al., "Tent", arXiv 2006.10726). Diversity is recorded, not minimised.
class Tent final : public Objective {
 public:
  BatchObjective evaluate(const at::Tensor& logits, const at::Tensor& sample_weight,
                          const SumOverRanks& sum) const override {
    at::NoGradGuard no_grad;
    const EntropyTerms terms = entropy_terms(logits, sample_weight, 1e-8, sum);
    const at::Tensor h = terms.mean_entropy / std::log(static_cast<double>(logits.size(-1)));
    const at::Tensor none = at::zeros_like(h);
    return {terms.entropy, terms.entropy,          (1 - h) * terms.real,
            none,          terms.mean_probability, entropy_gradient(terms, none)};
  }
};

}  // namespace

std::unique_ptr<Objective> make_tent() { return std::make_unique<Tent>(); }

}  // namespace tenfold

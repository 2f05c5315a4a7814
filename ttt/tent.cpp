#include <ATen/ATen.h>

#include <cmath>

#include "ttt/objective.h"

namespace tenfold {
namespace {

// total = entropy (Wang et al., "Tent", arXiv 2006.10726). Diversity is recorded, not minimised.
class Tent final : public Objective {
 public:
  BatchObjective evaluate(const at::Tensor& logits, const at::Tensor& sample_weight) const override {
    const EntropyTerms terms = entropy_terms(logits, sample_weight, 1e-8);
    const at::Tensor h = terms.mean_entropy.detach() / std::log(static_cast<double>(logits.size(-1)));
    const at::Tensor real = (sample_weight.select(-1, 0) > 0).to(at::kFloat);
    return {terms.entropy, terms.entropy, (1 - h) * real, at::zeros_like(h), terms.mean_probability};
  }
};

}  // namespace

std::unique_ptr<Objective> make_tent() { return std::make_unique<Tent>(); }

}  // namespace tenfold

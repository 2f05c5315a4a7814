#include <ATen/ATen.h>

#include <cmath>

#include "ttt/objective.h"

namespace tenfold {
namespace {

// total = entropy - H(pbar), eps 1e-5: the information maximisation of SHOT (Liang et al., arXiv 2002.08546).
// H(pbar) = log C (1 - diversity), so the weight that the total gives the recorded diversity is log C, and total =
// entropy + log C * diversity - log C.
class ShotIm final : public Objective {
 public:
  BatchObjective evaluate(const at::Tensor& logits, const at::Tensor& sample_weight,
                          const SumOverRanks& sum) const override {
    at::NoGradGuard no_grad;
    const EntropyTerms terms = entropy_terms(logits, sample_weight, 1e-5, sum);
    const double log_classes = std::log(static_cast<double>(logits.size(-1)));
    const at::Tensor diversity = (1 - terms.mean_entropy / log_classes) * terms.real;
    return {terms.entropy - terms.mean_entropy * terms.real,
            terms.entropy,
            diversity,
            at::full_like(diversity, log_classes),
            terms.mean_probability,
            entropy_gradient(terms, at::ones_like(diversity))};
  }
};

}  // namespace

std::unique_ptr<Objective> make_shot_im() { return std::make_unique<ShotIm>(); }

}  // namespace tenfold

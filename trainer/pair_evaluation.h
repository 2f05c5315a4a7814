#pragma once

#include <span>
#include <vector>

#include "datasets/minimal_pairs.h"
#include "experiments/spec.h"
#include "trainer/evaluation.h"
#include "trainer/reporter.h"

namespace tenfold {

// Which variant of each minimal pair the members of an array of language models find likelier: the file of
// diagnostics.minimal_pairs as samples of tokens, read by all members as one computation.
class PairEvaluation {
 public:
  // Throws Error(data) with file and line. vocabulary: tokens that the model knows.
  PairEvaluation(const ExperimentSpec& spec, int vocabulary, const at::Device& device);

  // By member the losses of every pair; empty for those that are not `due`. Evaluation mode; a member's losses do not
  // depend on who is beside it.
  std::vector<std::vector<PairLoss>> losses(const Model& model, ModelState& state, const std::vector<bool>& due,
                                            const at::Tensor& base_lr) const;

  // The score of each task, and the metric minimal_pairs: their mean. Its hits count a tie as a half, and are given
  // where that makes them whole.
  void report(Reporter& reporter, std::uint32_t member, const std::vector<PairLoss>& losses, Phase phase,
              std::int64_t step) const;

 private:
  MinimalPairs pairs_;
  SampleTable table_;                 // good and bad variant of each pair, one after another
  std::vector<std::int64_t> bounds_;  // padded lengths
  std::int64_t mixing_batch_;         // of models in which the samples of a batch see each other
};

bool all_finite(std::span<const PairLoss> losses);

}  // namespace tenfold

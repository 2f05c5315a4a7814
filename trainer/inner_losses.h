#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "trainer/adapt_members.h"
#include "trainer/reporter.h"
#include "ttt/inner_loss.h"

namespace tenfold {

// Records how the inner loop learns while the held-out folds of an array are evaluated, where the experiment asks for
// it (diagnostics.inner_loss): at the evaluation before adaptation, and at every `every`-th of those after it.
class InnerLosses {
 public:
  // by_batch: members are evaluated lane by lane (reset: batch), where streams are not whole and nothing is recorded.
  InnerLosses(std::span<const AdaptMember> members, bool by_batch, std::int64_t pass, const Model& model,
              const at::Device& device);
  InnerLossRecorder* recorder() { return recorder_.get(); }  // null where nothing is recorded
  void report(Reporter& reporter, std::size_t member, Phase phase, std::int64_t step) const;

 private:
  std::unique_ptr<InnerLossRecorder> recorder_;
};

// Which layers of a model have an inner loop, ascending: indices as ParameterInfo::layer.
std::vector<int> ttt_layers(const ModelLayout& layout);

}  // namespace tenfold

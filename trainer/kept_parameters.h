#pragma once

#include <memory>
#include <string>
#include <vector>

#include "trainer/fit_member.h"
#include "trainer/last_finite.h"

namespace tenfold {

// What an array of fits keeps beside the running parameters, to end with: the best ones on the validation part (early
// stopping), and the last ones that gave a finite loss (on_nonfinite.policy: stop).
class KeptParameters {
 public:
  KeptParameters(const ModelState& state, const std::vector<std::size_t>& trained, bool best, bool finite);

  std::vector<at::Tensor>& best_parameters() { return best_parameters_; }  // empty without early stopping
  std::vector<at::Tensor>& best_buffers() { return best_buffers_; }
  LastFinite* last_finite() { return last_finite_.get(); }  // null where nothing is put back

  // A value of member k was not finite at update `at`: it fails, or is put back to what it was after `kept` updates, or
  // to its best, and ends there. Whether it was put back.
  bool diverged(FitMember& member, std::int64_t k, const std::string& what, std::int64_t at, std::int64_t kept,
                ModelState& state) const;
  // Keeps the member's parameters if they are its best; ends it with its best where its patience or its time is over.
  void look_at_validation(FitMember& member, std::int64_t k, double loss, std::int64_t step, ModelState& state);

 private:
  std::vector<at::Tensor> best_parameters_, best_buffers_;
  std::unique_ptr<LastFinite> last_finite_;
};

}  // namespace tenfold

#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "trainer/adapt_members.h"
#include "trainer/lane_states.h"

namespace tenfold {

// What the lanes of an adaptation were at the beginning of a pass and of the one before it, so that a member whose
// values stop being finite can be put back to what was good (on_nonfinite.policy: stop). A loss that is not finite is
// often of what the pass before has left, whose predictions tell: then that one is undone, too.
class KeptLanes {
 public:
  // adapted: places of the parameters that change; buffers all do.
  KeptLanes(const ModelState& state, const std::vector<std::size_t>& adapted);
  // At the beginning of a pass.
  void keep(const ModelState& state);
  // Members whose values stopped being finite in `pass`, or whose predictions are not finite, are again what they were
  // before it, or, the second time, before the pass ahead of it, and that was their last; the others keep every bit.
  // Whether there was any.
  bool put_back_nonfinite(ModelState& state, std::vector<AdaptMember>& members, std::int64_t pass) const;
  // Every tensor that is kept of the beginning of the pass, or of the one `before`, with the name of its parameter or
  // buffer: for checkpoints.
  void visit(const ModelLayout& layout, bool before, const std::function<void(const std::string&, at::Tensor&)>& visit);

 private:
  struct Values {
    std::vector<at::Tensor> parameters, buffers;
  };
  void put_back(ModelState& state, const Values& values, std::int64_t first_lane, std::int64_t lanes) const;

  std::vector<std::size_t> adapted_;
  std::array<Values, 2> kept_;  // of the pass, of the one before
};

}  // namespace tenfold

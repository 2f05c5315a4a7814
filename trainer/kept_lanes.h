#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "trainer/adapt_members.h"
#include "trainer/lane_states.h"

namespace tenfold {

// What the lanes of an adaptation were at the beginning of a pass, so that a member whose values stop being finite can
// be put back to what its last good pass left (on_nonfinite.policy: stop).
class KeptLanes {
 public:
  // adapted: places of the parameters that change; buffers all do.
  KeptLanes(const ModelState& state, const std::vector<std::size_t>& adapted);
  void keep(const ModelState& state);
  // Members whose values stopped being finite in `pass`, or whose predictions are not finite after it, are again what
  // they were before it, and that was their last; the others keep every bit. Whether there was any.
  bool put_back_nonfinite(ModelState& state, std::vector<AdaptMember>& members, std::int64_t pass) const;
  // Every tensor that is kept, with the name of its parameter or buffer: for checkpoints.
  void visit(const ModelLayout& layout, const std::function<void(const std::string&, at::Tensor&)>& visit);

 private:
  void put_back(ModelState& state, std::int64_t first_lane, std::int64_t lanes) const;

  std::vector<std::size_t> adapted_;
  std::vector<at::Tensor> parameters_, buffers_;
};

}  // namespace tenfold

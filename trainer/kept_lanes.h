#pragma once

#include <cstddef>
#include <vector>

#include "trainer/lane_states.h"

namespace tenfold {

// What the lanes of an adaptation were at the beginning of a pass, so that a member whose values stop being finite can
// be put back to what its last good pass left (on_nonfinite.policy: stop).
class KeptLanes {
 public:
  // adapted: places of the parameters that change; buffers all do.
  KeptLanes(const ModelState& state, const std::vector<std::size_t>& adapted);
  void keep(const ModelState& state);
  // The lanes of one member; the others keep every bit.
  void put_back(ModelState& state, std::int64_t first_lane, std::int64_t lanes) const;

 private:
  std::vector<std::size_t> adapted_;
  std::vector<at::Tensor> parameters_, buffers_;
};

}  // namespace tenfold

#include "trainer/gates.h"

#include <ATen/ATen.h>

namespace tenfold {

std::vector<GateRow> gate_rows(const ModelLayout& layout, const ModelState& state, std::int64_t k, std::int64_t step) {
  std::vector<GateRow> rows;
  for (std::size_t i = 0; i < layout.parameters.size(); ++i) {
    if (layout.parameters[i].group != ParameterGroup::gate) continue;
    const at::Tensor gate = at::tanh(state.parameters[i].detach().select(0, k).to(at::kDouble)).cpu();
    rows.push_back({step, gate.mean().item<double>(), gate.min().item<double>(), gate.max().item<double>(),
                    layout.parameters[i].layer, 0});
  }
  return rows;
}

}  // namespace tenfold

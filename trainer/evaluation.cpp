#include "trainer/evaluation.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace tenfold {

std::vector<std::vector<float>> evaluate_logits(const Model& model, ModelState& state,
                                                const std::vector<std::vector<std::int64_t>>& rows,
                                                const BatchGatherer& gather, std::int64_t batch_size) {
  at::NoGradGuard no_grad;
  std::size_t longest = 0;
  for (const auto& list : rows) longest = std::max(longest, list.size());
  std::vector<std::vector<float>> logits(rows.size());
  for (std::size_t first = 0; first < longest; first += static_cast<std::size_t>(batch_size)) {
    std::vector<std::vector<std::int64_t>> batch(rows.size(),
                                                 std::vector<std::int64_t>(static_cast<std::size_t>(batch_size), 0));
    for (std::size_t k = 0; k < rows.size(); ++k)
      for (std::size_t i = first; i < std::min(rows[k].size(), first + static_cast<std::size_t>(batch_size)); ++i)
        batch[k][i - first] = rows[k][i];
    const at::Tensor out = model.forward(state, gather(batch), {}).contiguous().cpu();
    const std::int64_t classes = out.size(2);
    for (std::size_t k = 0; k < rows.size(); ++k) {
      if (rows[k].size() <= first) continue;
      const auto count = std::min<std::int64_t>(batch_size, static_cast<std::int64_t>(rows[k].size() - first));
      const float* data = out.const_data_ptr<float>() + static_cast<std::int64_t>(k) * batch_size * classes;
      logits[k].insert(logits[k].end(), data, data + count * classes);
    }
  }
  return logits;
}

bool all_finite(const std::vector<float>& logits) {
  return std::all_of(logits.begin(), logits.end(), [](float logit) { return std::isfinite(logit); });
}

}  // namespace tenfold

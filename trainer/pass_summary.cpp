#include "trainer/pass_summary.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace tenfold {

TttStepRow summarise_pass(std::span<const BatchMeasure> batches, int classes) {
  TttStepRow row{};
  double samples = 0;
  std::vector<double> probability(static_cast<std::size_t>(classes));
  std::vector<std::int64_t> counts(static_cast<std::size_t>(classes));
  for (const BatchMeasure& batch : batches) {
    const auto n = static_cast<double>(batch.samples);
    row.total += n * batch.metrics[kTotal];
    row.entropy += n * batch.metrics[kEntropy];
    row.diversity += n * batch.metrics[kDiversity];
    row.diversity_weight += n * batch.metrics[kWeight];
    row.grad_norm += batch.metrics[kGradNorm];
    for (std::size_t c = 0; c < probability.size(); ++c) probability[c] += n * batch.mean_probability[c];
    for (const std::int64_t predicted : batch.predicted)
      if (predicted >= 0) ++counts[static_cast<std::size_t>(predicted)];
    samples += n;
  }
  row.total /= samples;
  row.entropy /= samples;
  row.diversity /= samples;
  row.diversity_weight /= samples;
  row.grad_norm /= static_cast<double>(batches.size());
  double entropy = 0;
  for (const double sum : probability) entropy -= sum / samples * std::log(sum / samples + 1e-8);
  row.class_entropy = entropy / std::log(static_cast<double>(classes));
  for (const std::int64_t count : counts) row.classes_predicted += count > 0 ? 1 : 0;
  row.max_class_share = static_cast<double>(*std::max_element(counts.begin(), counts.end())) / samples;
  return row;
}

}  // namespace tenfold

#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "db/statistics.h"
#include "db/ttt_loss_data.h"

namespace tenfold {

inline constexpr Quantity kCompared[] = {Quantity::total, Quantity::entropy, Quantity::diversity,
                                         Quantity::corrected_diversity};

// One quantity of two configurations, over the folds that both have.
struct Comparison {
  std::string what;
  double a = 0, b = 0;
  CorrectedMean difference;
  int digits = 4;
};

// Differences are a minus b. `paired` becomes the number of folds that both have: the same repeat and fold, and the
// same samples where both know them. Shares are in per cent.
std::vector<Comparison> compare(const Curves& a, const Curves& b, const std::vector<std::string>& metrics,
                                std::size_t& paired);

}  // namespace tenfold

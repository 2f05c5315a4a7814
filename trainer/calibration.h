#pragma once

#include <algorithm>
#include <array>
#include <cmath>

namespace tenfold {

// Expected calibration error over 15 equal-width bins of confidence: the sum over bins of |hits - confidence|, to be
// divided by the number of predictions (Guo et al. 2017, arXiv 1706.04599).
class CalibrationBins {
 public:
  void add(double confidence, bool hit) {
    const int bin = std::clamp(static_cast<int>(std::ceil(confidence * kBins)) - 1, 0, kBins - 1);
    surplus_[static_cast<std::size_t>(bin)] += (hit ? 1.0 : 0.0) - confidence;
  }
  double sum() const {
    double sum = 0;
    for (const double bin : surplus_) sum += std::abs(bin);
    return sum;
  }

 private:
  static constexpr int kBins = 15;
  std::array<double, kBins> surplus_{};  // by bin: sum of hit - confidence
};

}  // namespace tenfold

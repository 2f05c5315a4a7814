#pragma once

#include <algorithm>
#include <cmath>

namespace tenfold {

struct ProportionInterval {
  double low, high;
};

// Wilson's score interval of a share of `total` independent trials (Wilson 1927, JASA 22:209); z = 1.96 for 95 %.
// Unlike share +- z sd it stays within [0, 1] and does not shrink to nothing at 0 and 1. [0, 1] of no trials.
inline ProportionInterval wilson_interval(double share, double total, double z = 1.959963984540054) {
  if (!(total > 0)) return {0, 1};
  const double z2 = z * z / total;
  const double centre = (share + z2 / 2) / (1 + z2);
  const double half = z / (1 + z2) * std::sqrt((share * (1 - share) + z2 / 4) / total);
  return {std::max(0.0, centre - half), std::min(1.0, centre + half)};
}

}  // namespace tenfold

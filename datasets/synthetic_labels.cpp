#include "datasets/synthetic_labels.h"

#include <algorithm>
#include <cmath>

#include "datasets/philox.h"

namespace tenfold {
namespace {

constexpr std::uint64_t kLengthSite = 16, kSuccessorSite = 17;  // tables: below 1 << 24

// The distribution of Kumaraswamy (1980) with a = 2 at evenly spaced quantiles: hump-shaped with a tail to the right,
// ends included. Its mean falls with b.
std::vector<std::int64_t> lengths_of_shape(const DatasetSpec& spec, double b) {
  const std::int64_t n = spec.samples;
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    const double q = n > 1 ? static_cast<double>(i) / static_cast<double>(n - 1) : 0.5;
    const double x = std::sqrt(1.0 - std::pow(1.0 - q, 1.0 / b));
    lengths[static_cast<std::size_t>(i)] = spec.min_steps + std::llround(x * (spec.max_steps - spec.min_steps));
  }
  return lengths;
}

double mean_of(const std::vector<std::int64_t>& lengths) {
  double sum = 0;
  for (const std::int64_t length : lengths) sum += static_cast<double>(length);
  return sum / static_cast<double>(lengths.size());
}

std::int64_t other_class(const RandomStream& stream, std::uint64_t index, std::int64_t label, int classes) {
  const auto step = 1 + random_below(stream, index, static_cast<std::uint64_t>(classes) - 1);
  return (label + static_cast<std::int64_t>(step)) % classes;
}

}  // namespace

std::vector<std::int64_t> synthetic_lengths(const DatasetSpec& spec) {
  double low = -12, high = 12;  // log2 of b
  for (int halving = 0; halving < 40; ++halving) {
    const double middle = (low + high) / 2;
    (mean_of(lengths_of_shape(spec, std::exp2(middle))) > spec.mean_steps ? low : high) = middle;
  }
  const std::vector<std::int64_t> sorted = lengths_of_shape(spec, std::exp2(high));
  std::vector<std::int64_t> lengths;
  lengths.reserve(sorted.size());
  for (const std::int64_t place :
       random_permutation(RandomStream(spec.seed, Purpose::synthetic, 0, 0, kLengthSite), spec.samples))
    lengths.push_back(sorted[static_cast<std::size_t>(place)]);
  return lengths;
}

std::vector<SyntheticStep> synthetic_steps(const DatasetSpec& spec, std::int64_t sequence, std::int64_t steps) {
  constexpr std::uint64_t kShortest = 4, kDwells = 6, kSuccessors = 3, kNumbers = 4;  // numbers drawn of a segment
  const RandomStream stream(spec.seed, Purpose::synthetic, 0, 0,
                            sequence_site(static_cast<std::uint64_t>(sequence), kLabelStep));
  const RandomStream successors(spec.seed, Purpose::synthetic, 0, 0, kSuccessorSite);
  std::vector<SyntheticStep> result;
  result.reserve(static_cast<std::size_t>(steps));
  std::int64_t label = 0;
  for (std::uint64_t segment = 0; static_cast<std::int64_t>(result.size()) < steps; ++segment) {
    const std::uint64_t at = segment * kNumbers;
    if (segment == 0) {
      label = static_cast<std::int64_t>(random_below(stream, at, static_cast<std::uint64_t>(spec.classes)));
    } else if (random_below(stream, at, 100) < 85) {
      const std::uint64_t which = random_below(stream, at + 1, kSuccessors);
      label = other_class(successors, static_cast<std::uint64_t>(label) * kSuccessors + which, label, spec.classes);
    } else {
      label = other_class(stream, at + 1, label, spec.classes);
    }
    const std::uint64_t dwell = kShortest + random_below(stream, at + 2, kDwells);
    for (std::uint64_t place = 0; place < dwell && static_cast<std::int64_t>(result.size()) < steps; ++place)
      result.push_back({static_cast<std::int32_t>(label),
                        static_cast<float>((static_cast<double>(place) + 0.5) / static_cast<double>(dwell))});
  }
  return result;
}

}  // namespace tenfold

#include <cmath>

#include "datasets/loaders.h"
#include "datasets/philox.h"
#include "experiments/error.h"

namespace tenfold {
namespace {

constexpr std::int64_t kMaxValues = std::int64_t{1} << 31;

enum Site : std::uint64_t { kMeans = 1, kNoise = 2 };

void require(bool condition, const std::string& message) {
  if (!condition) throw Error(ErrorKind::config, message);
}

// Means (classes, features). As long as there are as many features as classes, their directions are
// orthonormal, so that each pair is exactly `separation` apart; beyond, nearly so.
std::vector<double> class_means(const DatasetSpec& spec) {
  const std::size_t classes = static_cast<std::size_t>(spec.classes),
                    features = static_cast<std::size_t>(spec.features);
  std::vector<float> random(classes * features);
  fill_normal(RandomStream(spec.seed, Purpose::synthetic, 0, 0, kMeans), random);
  std::vector<double> directions(random.begin(), random.end());
  const auto dot = [&](std::size_t a, std::size_t b) {
    double sum = 0;
    for (std::size_t f = 0; f < features; ++f) sum += directions[a * features + f] * directions[b * features + f];
    return sum;
  };
  for (std::size_t c = 0; c < classes; ++c) {
    for (std::size_t other = 0; classes <= features && other < c; ++other) {
      const double overlap = dot(c, other);
      for (std::size_t f = 0; f < features; ++f)
        directions[c * features + f] -= overlap * directions[other * features + f];
    }
    const double length = std::sqrt(dot(c, c));
    for (std::size_t f = 0; f < features; ++f) directions[c * features + f] /= length > 0 ? length : 1;
  }
  for (double& value : directions) value *= spec.separation * 0.70710678118654752;  // orthogonal: distance sqrt(2) r
  return directions;
}

}  // namespace

Dataset::Parts load_synthetic(const DatasetSpec& spec) {
  require(spec.classes >= 2, "dataset.classes: needs at least 2, not " + std::to_string(spec.classes));
  require(spec.features >= 1, "dataset.features: needs at least 1, not " + std::to_string(spec.features));
  require(spec.samples >= spec.classes, "dataset.samples: needs at least one sample of each of the " +
                                            std::to_string(spec.classes) + " classes, not " +
                                            std::to_string(spec.samples));
  require(spec.group_count >= 0, "dataset.group_count: must not be negative");
  require(std::isfinite(spec.separation) && std::abs(spec.separation) <= 1e6,
          "dataset.separation: must lie between -1e6 and 1e6");
  require(std::int64_t{spec.samples} * spec.features <= kMaxValues &&
              std::int64_t{spec.classes} * spec.features <= kMaxValues,
          "dataset.samples: times dataset.features must stay within " + std::to_string(kMaxValues) + " values");

  const std::vector<double> means = class_means(spec);
  const std::size_t n = static_cast<std::size_t>(spec.samples), features = static_cast<std::size_t>(spec.features);
  Dataset::Parts parts;
  parts.sample_shape = {spec.features};
  parts.samples.resize(n * features);
  fill_normal(RandomStream(spec.seed, Purpose::synthetic, 0, 0, kNoise), parts.samples);
  for (std::size_t i = 0; i < n; ++i) {
    // Classes in turn, and groups in turn of whole rounds: every group has every class.
    const std::size_t label = i % static_cast<std::size_t>(spec.classes);
    parts.labels.push_back(static_cast<std::int64_t>(label));
    if (spec.group_count > 0)
      parts.groups.push_back(static_cast<std::int64_t>(i / static_cast<std::size_t>(spec.classes)) % spec.group_count);
    for (std::size_t f = 0; f < features; ++f)
      parts.samples[i * features + f] += static_cast<float>(means[label * features + f]);
  }
  for (int c = 0; c < spec.classes; ++c) parts.class_names.push_back(std::to_string(c));
  return parts;
}

}  // namespace tenfold

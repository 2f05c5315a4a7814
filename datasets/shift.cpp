#include "datasets/shift.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "datasets/image_shift.h"
#include "datasets/philox.h"
#include "experiments/error.h"

namespace tenfold {
namespace {

// Strengths at severity 1..5, documented in README.md beside this file. They are part of what a result means:
// changing one is a new kind of shift.
struct Strengths {
  const char* kind;
  double at[5];
  bool images_only;
};
constexpr Strengths kStrengths[] = {
    // Standard deviation over the feature's range; ImageNet-C's values for pixels in 0..1.
    {"gaussian_noise", {0.08, 0.12, 0.18, 0.26, 0.38}, false},
    // Share of the contrast that is left; ImageNet-C's values.
    {"contrast", {0.4, 0.3, 0.2, 0.1, 0.05}, false},
    // Standard deviation in pixels for a side of up to 32, growing with the side beyond; CIFAR-10-C's values.
    {"blur", {0.4, 0.6, 0.7, 0.8, 1.0}, true},
    // Length of the move over the image's sides; direction at random.
    {"translate", {0.05, 0.10, 0.15, 0.20, 0.25}, true},
    // Share of the features that go dead.
    {"feature_dropout", {0.1, 0.2, 0.3, 0.4, 0.5}, false},
    // Degrees, to a random side.
    {"rotate", {10, 20, 30, 40, 50}, true},
};

struct FeatureRange {
  std::vector<float> low, high;  // (features)
};

FeatureRange fit_range(const Dataset& dataset, std::span<const std::int64_t> train_indices) {
  const auto features = static_cast<std::size_t>(dataset.features());
  FeatureRange range{std::vector<float>(features, INFINITY), std::vector<float>(features, -INFINITY)};
  for (const std::int64_t i : train_indices) {
    const std::span<const float> values = dataset.sample(i);  // one row, or one per step
    for (std::size_t at = 0; at < values.size(); ++at) {
      const std::size_t f = at % features;
      range.low[f] = std::min(range.low[f], values[at]);
      range.high[f] = std::max(range.high[f], values[at]);
    }
  }
  if (dataset.is_image()) {  // pixels share one unit
    range.low.assign(features, *std::min_element(range.low.begin(), range.low.end()));
    range.high.assign(features, *std::max_element(range.high.begin(), range.high.end()));
  }
  return range;
}

class Shifter {
 public:
  Shifter(const Dataset& dataset, std::span<const std::int64_t> train_indices, const ShiftSpec& shift,
          std::uint64_t seed)
      : dataset_(dataset), kind_(shift.kind), stream_(seed, Purpose::shift, 0, 0, 0) {
    if (dataset.is_image()) image_ = {dataset.sample_shape()[0], dataset.sample_shape()[1], dataset.sample_shape()[2]};
    strength_ = strength(shift);
    if (!strengths(kind_).images_only) range_ = fit_range(dataset, train_indices);
    random_.resize(static_cast<std::size_t>(dataset.features()));
  }

  void apply(std::int64_t index, std::span<float> row) {
    // The stream of this sample alone.
    stream_.site_low = static_cast<std::uint32_t>(index);
    stream_.site_high = static_cast<std::uint32_t>(static_cast<std::uint64_t>(index) >> 32);
    if (kind_ == "gaussian_noise") return add_noise(row);
    if (kind_ == "contrast") return image_.channels > 0 ? lower_image_contrast(row) : lower_contrast(row);
    if (kind_ == "feature_dropout") return drop_features(row);
    if (kind_ == "blur") return blur_image(row, image_, strength_ * std::max(1.0, shorter_side() / 32), scratch_);
    if (kind_ == "translate") return translate(row);
    return rotate(row);
  }

 private:
  static const Strengths& strengths(const std::string& kind) {
    for (const Strengths& entry : kStrengths)
      if (kind == entry.kind) return entry;
    throw Error(ErrorKind::config, "dataset.shift.kind: '" + kind +
                                       "' is not known; it may be none, gaussian_noise, contrast, blur, translate, "
                                       "feature_dropout or rotate");
  }

  double strength(const ShiftSpec& shift) const {
    const Strengths& entry = strengths(kind_);
    if (shift.severity < 1 || shift.severity > 5)
      throw Error(ErrorKind::config, "dataset.shift.severity: must be 1 to 5, not " + std::to_string(shift.severity));
    if (entry.images_only && !dataset_.is_image())
      throw Error(ErrorKind::config, "dataset.shift.kind: " + kind_ +
                                         " is for images (channels, height, width), and these samples are rows of " +
                                         std::to_string(dataset_.features()) +
                                         " features; use gaussian_noise, contrast or feature_dropout");
    return entry.at[shift.severity - 1];
  }

  double shorter_side() const { return static_cast<double>(std::min(image_.height, image_.width)); }
  bool is_one_hot(std::size_t f) const { return !dataset_.one_hot().empty() && dataset_.one_hot()[f]; }

  void add_noise(std::span<float> row) {
    fill_normal(stream_, random_);
    const auto sd = static_cast<float>(strength_);
    for (std::size_t f = 0; f < row.size(); ++f) {
      const float noisy = row[f] + sd * (range_.high[f] - range_.low[f]) * random_[f];
      row[f] = is_one_hot(f) ? row[f] : noisy;
    }
  }

  // Towards the image's own mean, channel by channel.
  void lower_image_contrast(std::span<float> row) const {
    const auto pixels = static_cast<std::size_t>(image_.height * image_.width);
    for (std::size_t begin = 0; begin < row.size(); begin += pixels) {
      double sum = 0;
      for (const float x : row.subspan(begin, pixels)) sum += x;
      const auto mean = static_cast<float>(sum / static_cast<double>(pixels));
      for (float& x : row.subspan(begin, pixels)) x = mean + static_cast<float>(strength_) * (x - mean);
    }
  }

  // Towards the middle of each feature's range.
  void lower_contrast(std::span<float> row) const {
    for (std::size_t f = 0; f < row.size(); ++f) {
      if (is_one_hot(f)) continue;
      const float middle = range_.low[f] + 0.5f * (range_.high[f] - range_.low[f]);
      row[f] = middle + static_cast<float>(strength_) * (row[f] - middle);
    }
  }

  // A dead sensor reads the least that training knew of it.
  void drop_features(std::span<float> row) {
    fill_uniform(stream_, random_);
    for (std::size_t f = 0; f < row.size(); ++f)
      if (random_[f] < static_cast<float>(strength_) && !is_one_hot(f)) row[f] = range_.low[f];
  }

  void translate(std::span<float> row) {
    const double angle = 2 * std::numbers::pi * to_unit_float(stream_.word(0));
    Warp warp;
    warp.offset_x = strength_ * static_cast<double>(image_.width) * std::cos(angle);
    warp.offset_y = strength_ * static_cast<double>(image_.height) * std::sin(angle);
    warp_image(row, image_, warp, scratch_);
  }

  void rotate(std::span<float> row) {
    const double side = to_unit_float(stream_.word(0)) < 0.5f ? -1 : 1;
    const double angle = side * strength_ * std::numbers::pi / 180;
    const Warp warp{std::cos(angle), -std::sin(angle), std::sin(angle), std::cos(angle), 0, 0};
    warp_image(row, image_, warp, scratch_);
  }

  const Dataset& dataset_;
  std::string kind_;
  double strength_ = 0;
  RandomStream stream_;
  ImageShape image_{0, 0, 0};
  FeatureRange range_;
  std::vector<float> random_, scratch_;
};

}  // namespace

std::vector<float> shifted_samples(const Dataset& dataset, std::span<const std::int64_t> indices,
                                   std::span<const std::int64_t> train_indices, const ShiftSpec& shift,
                                   std::uint64_t seed) {
  const auto features = static_cast<std::size_t>(dataset.features());
  std::vector<float> result;
  result.reserve(indices.size() * features);
  for (const std::int64_t i : indices) {
    const auto row = dataset.sample(i);
    result.insert(result.end(), row.begin(), row.end());
  }
  if (shift.kind == "none") return result;
  if (train_indices.empty())
    throw Error(ErrorKind::internal, "a shift needs training samples to take the features' ranges from");
  Shifter shifter(dataset, train_indices, shift, seed);
  // A step of a sequence is shifted as a sample of its own, numbered by its place in the dataset; but what is dead
  // stays dead.
  std::size_t row = 0;
  for (const std::int64_t i : indices) {
    const bool sequence = dataset.kind() == SampleKind::sequence;
    const std::int64_t first = sequence ? dataset.starts()[static_cast<std::size_t>(i)] : i;
    for (std::int64_t step = 0; step < dataset.steps(i); ++step, ++row)
      shifter.apply(shift.kind == "feature_dropout" ? i : first + step,
                    std::span<float>(result).subspan(row * features, features));
  }
  return result;
}

}  // namespace tenfold

#include "datasets/normaliser.h"

#include <algorithm>
#include <cmath>

#include "experiments/error.h"

namespace tenfold {
namespace {

// Statistics over the training part, of one feature or of a channel's pixels together.
struct Column {
  double sum = 0, mean = 0, squares = 0;
  float low = INFINITY, high = -INFINITY;
};

// Which column a feature belongs to: its channel in an image, else itself.
struct Columns {
  std::size_t count, width;  // features of a column lie side by side
};

Columns columns_of(const Dataset& dataset) {
  const auto features = static_cast<std::size_t>(dataset.features());
  if (!dataset.is_image()) return {features, 1};
  const auto channels = static_cast<std::size_t>(dataset.sample_shape()[0]);
  return {channels, features / channels};
}

template <class Each>
void for_each_value(const Dataset& dataset, std::span<const std::int64_t> indices, Columns columns, Each each) {
  for (const std::int64_t i : indices) {
    const float* row = dataset.sample(i).data();
    for (std::size_t c = 0; c < columns.count; ++c)
      for (std::size_t p = 0; p < columns.width; ++p) each(c, *row++);
  }
}

float sound_scale(double spread) {
  const auto scale = static_cast<float>(1.0 / spread);
  return spread > 0 && std::isfinite(scale) && scale > 0 ? scale : 1.0f;
}

}  // namespace

Normaliser Normaliser::fit(const Dataset& dataset, std::span<const std::int64_t> train_indices,
                           const std::string& kind) {
  if (kind != "standard" && kind != "minmax" && kind != "none")
    throw Error(ErrorKind::config,
                "dataset.normalisation: '" + kind + "' is not known; it may be standard, minmax or none");
  const auto features = static_cast<std::size_t>(dataset.features());
  Normaliser result{std::vector<float>(features, 0.0f), std::vector<float>(features, 1.0f)};
  if (train_indices.empty()) throw Error(ErrorKind::internal, "a normaliser needs training samples to be fitted on");

  const Columns columns = columns_of(dataset);
  std::vector<Column> statistics(columns.count);
  for_each_value(dataset, train_indices, columns, [&](std::size_t c, float x) {
    statistics[c].sum += x;
    statistics[c].low = std::min(statistics[c].low, x);
    statistics[c].high = std::max(statistics[c].high, x);
  });
  const double count = static_cast<double>(train_indices.size()) * static_cast<double>(columns.width);
  for (Column& column : statistics) column.mean = column.sum / count;
  if (kind == "standard")  // a second pass: a mean far from 0 would cancel the digits of a one-pass variance
    for_each_value(dataset, train_indices, columns, [&](std::size_t c, float x) {
      const double deviation = x - statistics[c].mean;
      statistics[c].squares += deviation * deviation;
    });

  for (std::size_t f = 0; f < features; ++f) {
    const Column& column = statistics[f / columns.width];
    const bool constant = column.low == column.high;
    if (!dataset.one_hot().empty() && dataset.one_hot()[f]) {
      result.scale[f] = column.high > 0 ? 1.0f : 0.0f;
    } else if (kind == "standard") {
      result.offset[f] = constant ? column.low : static_cast<float>(column.mean);
      result.scale[f] = constant ? 1.0f : sound_scale(std::sqrt(column.squares / count));
    } else if (kind == "minmax") {
      result.offset[f] = column.low;
      result.scale[f] = constant ? 1.0f : sound_scale(static_cast<double>(column.high) - column.low);
    }
  }
  return result;
}

void Normaliser::apply(std::span<float> samples) const {
  const std::size_t features = offset.size();
  if (features == 0 || samples.size() % features != 0)
    throw Error(ErrorKind::internal, "a normaliser of " + std::to_string(features) + " features was given " +
                                         std::to_string(samples.size()) + " values");
  for (std::size_t begin = 0; begin < samples.size(); begin += features)
    for (std::size_t f = 0; f < features; ++f) samples[begin + f] = (samples[begin + f] - offset[f]) * scale[f];
}

}  // namespace tenfold

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

// Calls each(column, value) for every value of every step of the samples.
template <class Each>
void for_each_value(const Dataset& dataset, std::span<const std::int64_t> indices, Columns columns, Each each) {
  for (const std::int64_t i : indices) {
    const std::span<const float> steps = dataset.sample(i);
    for (const float* row = steps.data(); row != steps.data() + steps.size();)
      for (std::size_t c = 0; c < columns.count; ++c)
        for (std::size_t p = 0; p < columns.width; ++p) each(c, *row++);
  }
}

float sound_scale(double spread) {
  const auto scale = static_cast<float>(1.0 / spread);
  return spread > 0 && std::isfinite(scale) && scale > 0 ? scale : 1.0f;
}

std::int64_t steps_of(const Dataset& dataset, std::span<const std::int64_t> indices) {
  std::int64_t steps = 0;
  for (const std::int64_t i : indices) steps += dataset.steps(i);
  return steps;
}

std::vector<Column> statistics_of(const Dataset& dataset, std::span<const std::int64_t> indices, Columns columns,
                                  bool with_squares) {
  std::vector<Column> statistics(columns.count);
  for_each_value(dataset, indices, columns, [&](std::size_t c, float x) {
    statistics[c].sum += x;
    statistics[c].low = std::min(statistics[c].low, x);
    statistics[c].high = std::max(statistics[c].high, x);
  });
  const double count = static_cast<double>(steps_of(dataset, indices)) * static_cast<double>(columns.width);
  for (Column& column : statistics) column.mean = column.sum / count;
  if (with_squares)  // a second pass: a mean far from 0 would cancel the digits of a one-pass variance
    for_each_value(dataset, indices, columns, [&](std::size_t c, float x) {
      const double deviation = x - statistics[c].mean;
      statistics[c].squares += deviation * deviation;
    });
  return statistics;
}

// The rows (of all steps, one after another) of at most kMostRows steps of the samples, evenly spaced.
std::vector<const float*> spaced_rows(const Dataset& dataset, std::span<const std::int64_t> indices) {
  constexpr std::int64_t kMostRows = 100'000;
  const std::int64_t steps = steps_of(dataset, indices), rows = std::min(steps, kMostRows);
  const std::int64_t features = dataset.features();
  std::vector<const float*> result;
  result.reserve(static_cast<std::size_t>(rows));
  std::int64_t before = 0, next = 0;  // steps of the samples passed; the next row's number
  for (const std::int64_t i : indices) {
    const std::int64_t count = dataset.steps(i);
    for (; next < rows && next * steps / rows < before + count; ++next)
      result.push_back(dataset.sample(i).data() + (next * steps / rows - before) * features);
    before += count;
  }
  return result;
}

// Of numbers in any order: linear between neighbours, as numpy's default. Reorders them.
double quantile(std::vector<float>& values, double share) {
  const double place = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::ptrdiff_t>(place);
  std::nth_element(values.begin(), values.begin() + below, values.end());
  const double low = values[static_cast<std::size_t>(below)];
  if (place == static_cast<double>(below)) return low;
  const double high = *std::min_element(values.begin() + below + 1, values.end());
  return low + (place - static_cast<double>(below)) * (high - low);
}

// Median and interquartile range of each feature; where that is 0 (a feature that is mostly one value) the standard
// deviation takes its place, or rare values would stay as large as they are.
void fit_robust(const Dataset& dataset, std::span<const std::int64_t> indices, std::span<float> offset,
                std::span<float> scale) {
  const std::vector<const float*> rows = spaced_rows(dataset, indices);
  constexpr std::size_t kTogether = 16;  // features gathered in one pass: a cache line of every row
  std::vector<std::vector<float>> values(kTogether, std::vector<float>(rows.size()));
  for (std::size_t begin = 0; begin < offset.size(); begin += kTogether) {
    const std::size_t count = std::min(kTogether, offset.size() - begin);
    for (std::size_t r = 0; r < rows.size(); ++r)
      for (std::size_t f = 0; f < count; ++f) values[f][r] = rows[r][begin + f];
    for (std::size_t f = 0; f < count; ++f) {
      std::vector<float>& column = values[f];
      const double middle = quantile(column, 0.5);
      double spread = quantile(column, 0.75) - quantile(column, 0.25);
      if (!(spread > 0)) {
        double sum = 0, squares = 0;
        for (const float x : column) sum += x;
        const double mean = sum / static_cast<double>(column.size());
        for (const float x : column) squares += (x - mean) * (x - mean);
        spread = std::sqrt(squares / static_cast<double>(column.size()));
      }
      offset[begin + f] = static_cast<float>(middle);
      scale[begin + f] = sound_scale(spread);
    }
  }
}

// One row of a normaliser, fitted on the samples at `indices`.
void fit_row(const Dataset& dataset, std::span<const std::int64_t> indices, const std::string& kind,
             std::span<float> offset, std::span<float> scale) {
  if (kind == "robust") fit_robust(dataset, indices, offset, scale);
  const bool categories = !dataset.one_hot().empty();
  if (kind == "robust" && !categories) return;
  if (kind == "none" && !categories) return;
  const Columns columns = columns_of(dataset);
  const std::vector<Column> statistics = statistics_of(dataset, indices, columns, kind == "standard");
  const double count = static_cast<double>(steps_of(dataset, indices)) * static_cast<double>(columns.width);
  for (std::size_t f = 0; f < offset.size(); ++f) {
    const Column& column = statistics[f / columns.width];
    const bool constant = column.low == column.high;
    if (categories && dataset.one_hot()[f]) {
      offset[f] = 0.0f;
      scale[f] = column.high > 0 ? 1.0f : 0.0f;
    } else if (kind == "standard") {
      offset[f] = constant ? column.low : static_cast<float>(column.mean);
      scale[f] = constant ? 1.0f : sound_scale(std::sqrt(column.squares / count));
    } else if (kind == "minmax") {
      offset[f] = column.low;
      scale[f] = constant ? 1.0f : sound_scale(static_cast<double>(column.high) - column.low);
    }
  }
}

// By group: its training samples, or all of its own where training has none.
std::vector<std::vector<std::int64_t>> samples_by_group(const Dataset& dataset,
                                                        std::span<const std::int64_t> train_indices) {
  if (dataset.groups().empty())
    throw Error(ErrorKind::config, "dataset.normalise_by: group needs groups, and the dataset has none");
  const auto [least, most] = std::minmax_element(dataset.groups().begin(), dataset.groups().end());
  if (*least < 0 || *most >= dataset.size())
    throw Error(ErrorKind::data, "dataset.normalise_by: group needs groups numbered from 0, and there is group " +
                                     std::to_string(*least < 0 ? *least : *most));
  std::vector<std::vector<std::int64_t>> members(static_cast<std::size_t>(*most) + 1);
  const auto of_group = [&](std::int64_t i) {
    return static_cast<std::size_t>(dataset.groups()[static_cast<std::size_t>(i)]);
  };
  for (const std::int64_t i : train_indices) members[of_group(i)].push_back(i);
  std::vector<bool> trained(members.size());
  for (std::size_t g = 0; g < members.size(); ++g) trained[g] = !members[g].empty();
  for (std::int64_t i = 0; i < dataset.size(); ++i)
    if (!trained[of_group(i)]) members[of_group(i)].push_back(i);
  return members;
}

}  // namespace

Normaliser Normaliser::fit(const Dataset& dataset, std::span<const std::int64_t> train_indices, const std::string& kind,
                           bool by_group) {
  if (kind != "standard" && kind != "minmax" && kind != "robust" && kind != "none")
    throw Error(ErrorKind::config,
                "dataset.normalisation: '" + kind + "' is not known; it may be standard, minmax, robust or none");
  if (dataset.kind() == SampleKind::tokens) throw Error(ErrorKind::internal, "tokens have nothing to normalise");
  if (train_indices.empty()) throw Error(ErrorKind::internal, "a normaliser needs training samples to be fitted on");
  const auto features = static_cast<std::size_t>(dataset.features());
  Normaliser result{std::vector<float>(features, 0.0f), std::vector<float>(features, 1.0f)};
  if (!by_group) {
    fit_row(dataset, train_indices, kind, result.offset, result.scale);
    return result;
  }
  const auto members = samples_by_group(dataset, train_indices);
  result.rows = static_cast<std::int64_t>(members.size());
  result.offset.assign(members.size() * features, 0.0f);
  result.scale.assign(members.size() * features, 1.0f);
  for (std::size_t g = 0; g < members.size(); ++g)
    if (!members[g].empty())
      fit_row(dataset, members[g], kind, std::span(result.offset).subspan(g * features, features),
              std::span(result.scale).subspan(g * features, features));
  return result;
}

void Normaliser::apply(std::span<float> samples, std::int64_t row) const {
  const std::size_t features = rows > 0 ? offset.size() / static_cast<std::size_t>(rows) : 0;
  if (features == 0 || samples.size() % features != 0 || row < 0 || row >= rows)
    throw Error(ErrorKind::internal, "row " + std::to_string(row) + " of a normaliser of " + std::to_string(features) +
                                         " features was given " + std::to_string(samples.size()) + " values");
  const float* const o = offset.data() + static_cast<std::size_t>(row) * features;
  const float* const s = scale.data() + static_cast<std::size_t>(row) * features;
  for (std::size_t begin = 0; begin < samples.size(); begin += features)
    for (std::size_t f = 0; f < features; ++f) samples[begin + f] = (samples[begin + f] - o[f]) * s[f];
}

}  // namespace tenfold

#include "datasets/sequence_values.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>

#include "experiments/error.h"

namespace tenfold {
namespace {

[[noreturn]] void refuse(const std::string& range, const std::string& what) {
  throw Error(ErrorKind::config, "dataset.feature_ranges: '" + range + "' " + what);
}

// "first:end"
ColumnRange parse_range(const std::string& text) {
  ColumnRange range{};
  const char* const last = text.data() + text.size();
  const auto first = std::from_chars(text.data(), last, range.first);
  const bool colon = first.ec == std::errc() && first.ptr != last && *first.ptr == ':';
  const auto end = colon ? std::from_chars(first.ptr + 1, last, range.end) : first;
  if (!colon || end.ec != std::errc() || end.ptr != last || range.first < 0 || range.end <= range.first)
    refuse(text, "is no range of columns; write first:end, such as 0:256 for the first 256");
  return range;
}

// log(1 + |x|) with the sign of x. In double, where 1 + |x| loses nothing that a float could tell, above a bound below
// which x itself is as near. log y by y = m 2^e, log m = 2 atanh((m - 1) / (m + 1)).
float signed_log1p(float x) {
  const double magnitude = std::abs(static_cast<double>(x));
  const double y = 1.0 + magnitude;
  constexpr std::uint64_t kRootHalf = 0x3FE6A09E667F3BCD;  // sqrt(1/2)
  const std::uint64_t shifted = std::bit_cast<std::uint64_t>(y) - kRootHalf;
  const auto exponent = static_cast<std::int32_t>(static_cast<std::int64_t>(shifted) >> 52);
  const double m = std::bit_cast<double>((shifted & 0x000FFFFFFFFFFFFF) + kRootHalf);
  const double s = (m - 1.0) / (m + 1.0), s2 = s * s;
  const double series =
      1.0 + s2 * (1.0 / 3 + s2 * (1.0 / 5 + s2 * (1.0 / 7 + s2 * (1.0 / 9 + s2 * (1.0 / 11 + s2 * (1.0 / 13))))));
  const double log = static_cast<double>(exponent) * 0.69314718055994531 + 2.0 * s * series;
  const double result = magnitude < 1e-7 ? magnitude : log;
  return static_cast<float>(x < 0 ? -result : result);
}

}  // namespace

ColumnSelection::ColumnSelection(const std::vector<std::string>& feature_ranges, std::int64_t features,
                                 const std::string& source)
    : features_(features), all_(feature_ranges.empty()) {
  if (all_) ranges_.push_back({0, features});
  for (const std::string& text : feature_ranges) {
    const ColumnRange range = parse_range(text);
    if (range.end > features) refuse(text, "ends after the " + std::to_string(features) + " features of " + source);
    for (const ColumnRange& other : ranges_)
      if (range.first < other.end && other.first < range.end)
        refuse(text, "has columns that another range has as well");
    ranges_.push_back(range);
  }
  for (const ColumnRange& range : ranges_) count_ += range.end - range.first;
}

void ColumnSelection::gather(std::span<const float> from, std::span<float> to) const {
  const auto width = static_cast<std::size_t>(features_);
  if (from.size() % width != 0 || to.size() != from.size() / width * static_cast<std::size_t>(count_))
    throw Error(ErrorKind::internal,
                "columns of " + std::to_string(from.size()) + " values were to fill " + std::to_string(to.size()));
  float* next = to.data();
  for (std::size_t row = 0; row < from.size(); row += width)
    for (const ColumnRange& range : ranges_)
      next = std::copy(from.data() + row + range.first, from.data() + row + range.end, next);
}

std::int64_t kept_steps(const DatasetSpec& spec, std::int64_t steps) {
  return spec.max_length > 0 ? std::min<std::int64_t>(steps, spec.max_length) : steps;
}

void transform_values(std::span<float> values, const std::string& transform) {
  if (transform == "none") return;
  if (transform != "log1p")
    throw Error(ErrorKind::config, "dataset.transform: '" + transform + "' is not known; it may be none or log1p");
  for (float& x : values) x = signed_log1p(x);
}

}  // namespace tenfold

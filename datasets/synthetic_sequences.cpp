#include <algorithm>
#include <bit>
#include <cmath>

#include "datasets/loaders.h"
#include "datasets/philox.h"
#include "datasets/sample_store.h"
#include "datasets/sequence_values.h"
#include "datasets/synthetic_labels.h"
#include "experiments/error.h"

namespace tenfold {
namespace {

constexpr int kBlocks = 5;
constexpr float kGainSpread = 0.1f, kOffsetSpread = 0.3f;  // of a session
constexpr float kLargest = 2e9f;

// Sites of tables, one row of features each: below 1 << 24, as sequences' are above.
constexpr std::uint64_t kOnsetSite = 1 << 20, kEndSite = 2 << 20, kGainSite = 4 << 20, kOffsetSite = 8 << 20;

void require(bool condition, const std::string& message) {
  if (!condition) throw Error(ErrorKind::config, message);
}

void require_sound(const DatasetSpec& spec) {
  require(spec.samples >= 1, "dataset.samples: needs at least 1, not " + std::to_string(spec.samples));
  require(spec.features >= 1, "dataset.features: needs at least 1, not " + std::to_string(spec.features));
  require(spec.classes >= 2, "dataset.classes: needs at least 2, not " + std::to_string(spec.classes));
  require(spec.min_steps >= 1 && spec.max_steps >= spec.min_steps && spec.max_steps <= 1'000'000,
          "dataset.max_steps: must be from dataset.min_steps (" + std::to_string(spec.min_steps) +
              ") to 1000000, not " + std::to_string(spec.max_steps));
  require(spec.mean_steps >= spec.min_steps && spec.mean_steps <= spec.max_steps,
          "dataset.mean_steps: must lie between dataset.min_steps and dataset.max_steps");
  require(spec.group_count >= 0 && spec.group_count <= spec.samples && spec.group_count < 1 << 20,
          "dataset.group_count: every session needs a sequence; use at most dataset.samples (" +
              std::to_string(spec.samples) + ") and below " + std::to_string(1 << 20));
  require(std::int64_t{std::max(spec.group_count, 1)} * spec.features <= std::int64_t{1} << 31,
          "dataset.group_count: times dataset.features must stay within " + std::to_string(std::int64_t{1} << 31));
  require(std::isfinite(spec.separation) && std::abs(spec.separation) <= 1e6,
          "dataset.separation: must lie between -1e6 and 1e6");
}

// exp(x) for x within +-80, by 2^k and a polynomial: our own, because a library's may differ in the last bit from CPU
// to CPU, and is not made into vectors.
inline float exp_of(float x) {
  const float turns = x * 1.44269504f;
  const auto k = static_cast<std::int32_t>(turns + (turns < 0 ? -0.5f : 0.5f));
  const float r = x - static_cast<float>(k) * 0.693147181f;  // within +-0.35
  const float series =
      1.0f + r * (1.0f + r * (0.5f + r * (1.0f / 6 + r * (1.0f / 24 + r * (1.0f / 120 + r * (1.0f / 720))))));
  return series * std::bit_cast<float>((k + 127) << 23);
}

inline float whole(float x) { return static_cast<float>(static_cast<std::int32_t>(x)); }  // towards 0

// Laws of the blocks, of a latent value z that is nearly standard normal.
struct Law {
  float scale, slope;  // of the exponential ones
};
constexpr Law kLaws[kBlocks] = {{0, 0}, {0, 0.8f}, {400.0f, 1.2f}, {1e4f, 1.5f}, {1e6f, 1.6f}};

void apply_law(int block, std::span<float> z) {
  const Law law = kLaws[block];
  if (block == 0) {  // counts of a low threshold
    for (float& x : z) x = whole(std::max(0.0f, 4.5f + 2.0f * x));
  } else if (block == 1) {  // rare counts of a high threshold
    for (float& x : z) x = whole(exp_of(std::clamp(law.slope * x, -40.0f, 14.0f)));
  } else {  // powers
    for (float& x : z) x = std::min(kLargest, law.scale * exp_of(std::clamp(law.slope * x, -40.0f, 40.0f)));
  }
}

// One run of selected columns within one block.
struct Run {
  std::int64_t first, count;
  int block;
  std::size_t at;  // among the selected columns
};

std::vector<Run> runs_of(const ColumnSelection& columns, std::int64_t features) {
  std::vector<Run> runs;
  std::size_t at = 0;
  for (const ColumnRange& range : columns.ranges())
    for (int block = 0; block < kBlocks; ++block) {
      const std::int64_t first = std::max(range.first, features * block / kBlocks);
      const std::int64_t end = std::min(range.end, features * (block + 1) / kBlocks);
      if (first >= end) continue;
      runs.push_back({first, end - first, block, at});
      at += static_cast<std::size_t>(end - first);
    }
  return runs;
}

// Rows of standard normal numbers, of the selected columns alone; a row is a pure function of (seed, site, row,
// column).
class Table {
 public:
  Table(const DatasetSpec& spec, std::uint64_t site, std::int64_t rows, const std::vector<Run>& runs,
        std::int64_t width)
      : width_(static_cast<std::size_t>(width)), values_(static_cast<std::size_t>(rows) * width_) {
    for (std::int64_t row = 0; row < rows; ++row) {
      const RandomStream stream(spec.seed, Purpose::synthetic, 0, 0, site + static_cast<std::uint64_t>(row));
      for (const Run& run : runs)
        fill_normal_from(stream, static_cast<std::uint64_t>(run.first),
                         this->row(row).subspan(run.at, static_cast<std::size_t>(run.count)));
    }
  }
  std::span<float> row(std::int64_t i) {
    return std::span(values_).subspan(static_cast<std::size_t>(i) * width_, width_);
  }
  std::span<float> values() { return values_; }

 private:
  std::size_t width_;
  std::vector<float> values_;
};

class Generator {
 public:
  Generator(const DatasetSpec& spec, const ColumnSelection& columns)
      : spec_(spec),
        runs_(runs_of(columns, spec.features)),
        side_(static_cast<int>(std::ceil(std::sqrt(static_cast<double>(spec.classes))))),
        sessions_(std::max(spec.group_count, 1)),
        onset_(spec, kOnsetSite, side_, runs_, columns.count()),
        end_(spec, kEndSite, side_, runs_, columns.count()),
        gain_(spec, kGainSite, sessions_, runs_, columns.count()),
        offset_(spec, kOffsetSite, sessions_, runs_, columns.count()) {
    // Patterns are `separation` apart when all features are read.
    const auto length = static_cast<float>(spec.separation * std::sqrt(0.5 / static_cast<double>(spec.features)));
    for (Table* table : {&onset_, &end_})
      for (float& x : table->values()) x *= length;
    for (float& x : gain_.values()) x = exp_of(kGainSpread * x);
    for (float& x : offset_.values()) x *= kOffsetSpread;
  }

  std::int64_t session_of(std::int64_t sequence) const { return sequence * sessions_ / spec_.samples; }

  void fill_step(std::int64_t sequence, std::int64_t step, SyntheticStep at, std::span<float> out) {
    const RandomStream noise(spec_.seed, Purpose::synthetic, 0, 0,
                             sequence_site(static_cast<std::uint64_t>(sequence), static_cast<std::uint64_t>(step)));
    // What a segment begins with tells class / side, what it ends with class % side: neither alone is the class.
    const auto early = static_cast<float>(std::sqrt(1.0 - static_cast<double>(at.progress)));
    const auto late = static_cast<float>(std::sqrt(static_cast<double>(at.progress)));
    const float* const onset = onset_.row(at.label / side_).data();
    const float* const end = end_.row(at.label % side_).data();
    const float* const gain = gain_.row(session_of(sequence)).data();
    const float* const offset = offset_.row(session_of(sequence)).data();
    for (const Run& run : runs_)
      fill_normal_from(noise, static_cast<std::uint64_t>(run.first),
                       out.subspan(run.at, static_cast<std::size_t>(run.count)));
    for (std::size_t f = 0; f < out.size(); ++f)
      out[f] = gain[f] * (out[f] + early * onset[f] + late * end[f]) + offset[f];
    for (const Run& run : runs_) apply_law(run.block, out.subspan(run.at, static_cast<std::size_t>(run.count)));
  }

 private:
  const DatasetSpec& spec_;
  std::vector<Run> runs_;
  std::int32_t side_;
  std::int64_t sessions_;
  Table onset_, end_, gain_, offset_;
};

}  // namespace

Dataset::Parts load_synthetic_sequences(const DatasetSpec& spec) {
  require_sound(spec);
  const ColumnSelection columns(spec.feature_ranges, spec.features, "the synthetic sequences");
  Generator generator(spec, columns);
  Dataset::Parts parts;
  parts.kind = SampleKind::sequence;
  parts.label_kind = LabelKind::step;
  parts.sample_shape = {columns.count()};
  std::int64_t total = 0;
  for (const std::int64_t length : synthetic_lengths(spec)) {
    const std::int64_t kept = kept_steps(spec, length);
    parts.starts.push_back(total);
    parts.lengths.push_back(kept);
    total += kept;
  }
  SampleStore store(total * columns.count(), "the synthetic sequences");
  const auto width = static_cast<std::size_t>(columns.count());
  parts.labels.reserve(static_cast<std::size_t>(total));
  for (std::int64_t i = 0; i < spec.samples; ++i) {
    const std::int64_t length = parts.lengths[static_cast<std::size_t>(i)];
    const std::vector<SyntheticStep> steps = synthetic_steps(spec, i, length);
    const auto begin = static_cast<std::size_t>(parts.starts[static_cast<std::size_t>(i)]) * width;
    const std::span<float> values = store.values().subspan(begin, steps.size() * width);
    for (std::size_t t = 0; t < steps.size(); ++t) {
      generator.fill_step(i, static_cast<std::int64_t>(t), steps[t], values.subspan(t * width, width));
      parts.labels.push_back(steps[t].label);
    }
    transform_values(values, spec.transform);
    if (spec.group_count > 0) parts.groups.push_back(generator.session_of(i));
  }
  std::move(store).give_to(parts);
  for (int c = 0; c < spec.classes; ++c) parts.class_names.push_back(std::to_string(c));
  for (int g = 0; g < spec.group_count; ++g) parts.group_names.push_back("session " + std::to_string(g));
  return parts;
}

}  // namespace tenfold

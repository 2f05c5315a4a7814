#include "datasets/sequence_assembly.h"

#include <algorithm>
#include <cmath>

#include "datasets/loaders.h"
#include "datasets/sample_store.h"
#include "experiments/error.h"

namespace tenfold {

SequenceAssembly::SequenceAssembly(const DatasetSpec& spec, std::string source)
    : spec_(spec), source_(std::move(source)) {}

void SequenceAssembly::fail(const std::string& trial, const std::string& what) const {
  throw Error(ErrorKind::data, source_ + ": trial " + trial + ": " + what);
}

void SequenceAssembly::add(const TrialOutline& outline) {
  const std::string& trial = outline.name;
  const std::int64_t steps = outline.steps, features = outline.features;
  constexpr std::int64_t kMostValues = std::int64_t{1} << 44;
  if (steps < 1 || features < 1)
    fail(trial, "is empty: its shape is (" + std::to_string(steps) + ", " + std::to_string(features) +
                    "); leave it out of the file");
  if (!trials_.empty() && features != features_)
    fail(trial, "has " + std::to_string(features) + " features where trial " + trials_[0] + " has " +
                    std::to_string(features_));
  if (outline.labels.empty()) fail(trial, "has no label");
  const std::int64_t kept = kept_steps(spec_, steps);
  if (kept > (kMostValues - total_) / features) fail(trial, "with it there are more values than can be held");
  features_ = features;
  trials_.push_back(trial);
  starts_.push_back(total_);
  lengths_.push_back(kept);
  total_ += kept;

  one_label_each_ = one_label_each_ && outline.one_label;
  const auto used = std::min(outline.labels.size(), static_cast<std::size_t>(kept));
  for (const double value : std::span(outline.labels).first(used)) {
    if (!std::isfinite(value)) fail(trial, "has a label that is not finite");
    if (value == -1) {
      codes_.push_back(-1);
      continue;
    }
    const auto found = code_of_.find(value);
    codes_.push_back(found != code_of_.end() ? found->second
                                             : code_of_.emplace(value, classes_.code(value)).first->second);
    constexpr std::size_t kManyLabels = 100'000;
    if (code_of_.size() > kManyLabels)
      fail(trial, "with it there are more than 100000 different labels; is dataset.targets_key the right one?");
  }
  label_counts_.push_back(static_cast<std::int64_t>(used));
  if (outline.session.has_value()) {
    if (session_codes_.size() + 1 != trials_.size())
      fail(trial, "has a session, but trial " + trials_[session_codes_.size()] + " has none");
    session_codes_.push_back(sessions_.code(*outline.session));
  } else if (!session_codes_.empty()) {
    fail(trial, "has no session, but trial " + trials_[0] + " has one");
  }
}

void SequenceAssembly::finish_labels(Dataset::Parts& parts) const {
  const LabelTable::Sorted sorted = classes_.finish();
  require_classes(sorted.names.size(), static_cast<std::int64_t>(trials_.size()), source_ + ": labels");
  parts.class_names = sorted.names;
  const auto class_of = [&](std::int64_t code) {
    return code < 0 ? -1 : sorted.position[static_cast<std::size_t>(code)];
  };
  if (one_label_each_) {
    parts.label_kind = LabelKind::sample;
    for (std::size_t i = 0; i < codes_.size(); ++i) {
      if (codes_[i] < 0) fail(trials_[i], "has the label -1, which is none");
      parts.labels.push_back(class_of(codes_[i]));
    }
    return;
  }
  parts.label_kind = LabelKind::step;
  parts.labels.assign(static_cast<std::size_t>(total_), -1);
  std::size_t next = 0;
  for (std::size_t i = 0; i < trials_.size(); ++i)
    for (std::int64_t t = 0; t < label_counts_[i]; ++t)
      parts.labels[static_cast<std::size_t>(starts_[i] + t)] = class_of(codes_[next++]);
}

void SequenceAssembly::finish_sessions(Dataset::Parts& parts) const {
  if (session_codes_.empty()) return;
  LabelTable::Sorted sorted = sessions_.finish();
  parts.groups = session_codes_;
  renumber(parts.groups, sorted.position);
  parts.group_names = std::move(sorted.names);
}

Dataset::Parts SequenceAssembly::finish(const Fill& fill) && {
  if (trials_.empty()) throw Error(ErrorKind::data, source_ + ": there are no trials in it");
  const ColumnSelection columns(spec_.feature_ranges, features_, source_);
  Dataset::Parts parts;
  parts.kind = SampleKind::sequence;
  parts.sample_shape = {columns.count()};
  finish_labels(parts);
  finish_sessions(parts);
  SampleStore store(total_ * columns.count(), source_);
  const auto width = static_cast<std::size_t>(columns.count());
  for (std::size_t i = 0; i < trials_.size(); ++i) {
    const std::span<float> values = store.values().subspan(static_cast<std::size_t>(starts_[i]) * width,
                                                           static_cast<std::size_t>(lengths_[i]) * width);
    fill(i, columns, values);
    for (std::size_t v = 0; v < values.size(); ++v)
      if (!std::isfinite(values[v]))
        fail(trials_[i], "step " + std::to_string(v / width) + ", selected feature " + std::to_string(v % width) +
                             " (both from 0) is " + (std::isnan(values[v]) ? "not a number" : "infinite") +
                             " in float32; clean the data first");
    transform_values(values, spec_.transform);
  }
  std::move(store).give_to(parts);
  parts.starts = std::move(starts_);
  parts.lengths = std::move(lengths_);
  return parts;
}

}  // namespace tenfold

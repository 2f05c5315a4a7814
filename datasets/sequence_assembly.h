#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "datasets/dataset.h"
#include "datasets/label_table.h"
#include "datasets/sequence_values.h"
#include "experiments/spec.h"

namespace tenfold {

// What is known of a trial before its values are read.
struct TrialOutline {
  std::string name;        // what messages call it
  std::int64_t steps = 0;  // as in the source
  std::int64_t features = 0;
  std::vector<double> labels;  // of the first steps, -1 for none; or one of the whole trial
  bool one_label = false;      // the source holds one label for the whole trial
  std::optional<std::string> session;
};

// Puts a dataset of sequences together in two passes, so that no more than its selected values are ever held: first
// add() of every trial in order, then finish(), which takes each trial's values straight to their place.
class SequenceAssembly {
 public:
  // source: what messages call the file.
  SequenceAssembly(const DatasetSpec& spec, std::string source);

  // Labels beyond the steps are left out; steps without one have no label. Throws Error(data) naming the trial.
  void add(const TrialOutline& trial);

  // Writes the values (kept steps, columns.count()) of a trial.
  using Fill = std::function<void(std::size_t trial, const ColumnSelection& columns, std::span<float> values)>;
  // Labels are of samples where each trial was given one value, else of steps.
  Dataset::Parts finish(const Fill& fill) &&;

  const std::string& source() const { return source_; }
  std::int64_t kept(std::size_t trial) const { return lengths_[trial]; }

 private:
  [[noreturn]] void fail(const std::string& trial, const std::string& what) const;
  void finish_labels(Dataset::Parts& parts) const;
  void finish_sessions(Dataset::Parts& parts) const;

  const DatasetSpec& spec_;
  std::string source_;
  std::int64_t features_ = 0, total_ = 0;
  bool one_label_each_ = true;
  std::vector<std::string> trials_;
  std::vector<std::int64_t> starts_, lengths_;
  std::vector<std::int64_t> codes_;          // of the labels of all trials, -1 for none
  std::vector<std::int64_t> label_counts_;   // by trial
  std::vector<std::int64_t> session_codes_;  // by trial, as far as they have one
  std::unordered_map<double, std::int64_t> code_of_;
  LabelTable classes_, sessions_;
};

}  // namespace tenfold

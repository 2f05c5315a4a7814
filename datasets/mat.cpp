#include <algorithm>
#include <limits>

#include "datasets/loaders.h"
#include "datasets/mat_file.h"
#include "datasets/sequence_assembly.h"
#include "experiments/error.h"

namespace tenfold {
namespace {

// Where one thing of all trials is: a cell array with a cell a trial, a field of a struct array, or an array of
// numbers that holds all trials.
class TrialsOf {
 public:
  // Finds `key`: a variable of this name, or else a field of a struct array. `found` tells whether there is one.
  TrialsOf(const MatFile& file, const std::string& key) : file_(file), key_(key), variable_(nullptr, Mat_VarFree) {
    const auto names = file.names();
    if (std::find(names.begin(), names.end(), key) != names.end()) {
      variable_ = file.info(key);
    } else {
      for (const std::string& name : names) {
        MatFile::Variable candidate = file.info(name);
        if (!has_field(*candidate, key)) continue;
        if (variable_ != nullptr) file.fail(key, "is a field of more than one variable");
        variable_ = std::move(candidate);
        field_ = true;
      }
    }
    if (variable_ != nullptr) shape_ = file.shape_of(*variable_, key);
  }

  bool found() const { return variable_ != nullptr; }
  bool by_trial() const { return field_ || variable_->class_type == MAT_C_CELL; }
  const std::vector<std::int64_t>& shape() const { return shape_; }

  // The cell or field of a trial.
  matvar_t& element(std::int64_t trial) const {
    matvar_t* const element =
        field_ ? Mat_VarGetStructFieldByName(variable_.get(), key_.c_str(), static_cast<std::size_t>(trial))
               : Mat_VarGetCell(variable_.get(), static_cast<int>(trial));
    if (element == nullptr) file_.fail(place(trial), "is empty or damaged");
    return *element;
  }
  std::string place(std::int64_t trial) const { return key_ + " of trial " + std::to_string(trial + 1); }

  // All numbers of an array that is not by trial, read once.
  const MatArray& whole() {
    if (whole_.values.empty()) whole_ = file_.numbers(*variable_, key_);
    return whole_;
  }
  matvar_t& variable() const { return *variable_; }

 private:
  static bool has_field(const matvar_t& variable, const std::string& key) {
    if (variable.class_type != MAT_C_STRUCT) return false;
    char* const* const fields = Mat_VarGetStructFieldnames(&variable);
    const unsigned count = Mat_VarGetNumberOfFields(const_cast<matvar_t*>(&variable));
    for (unsigned i = 0; fields != nullptr && i < count; ++i)
      if (fields[i] != nullptr && key == fields[i]) return true;
    return false;
  }

  const MatFile& file_;
  std::string key_;
  MatFile::Variable variable_;
  bool field_ = false;
  std::vector<std::int64_t> shape_;
  MatArray whole_;
};

class MatTrials {
 public:
  MatTrials(const MatFile& file, const DatasetSpec& spec)
      : file_(file),
        features_(file, spec.features_key),
        targets_(file, spec.targets_key),
        sessions_(file, session_key(spec)) {
    require_found(features_, spec.features_key, "dataset.features_key");
    require_found(targets_, spec.targets_key, "dataset.targets_key");
    if (features_.by_trial()) {
      trials_ = MatFile::elements(features_.shape());
    } else {
      if (features_.shape().size() > 3)
        file.fail(spec.features_key, "has more than three dimensions; (steps, features, trials) are needed");
      trials_ = features_.shape().size() == 3 ? features_.shape()[2] : 1;
    }
    if (trials_ < 1 || trials_ > std::numeric_limits<int>::max()) file.fail(spec.features_key, "holds no trials");
    if (targets_.by_trial()) require_count(targets_, spec.targets_key);
    if (sessions_.found() && sessions_.by_trial()) require_count(sessions_, spec.session_attribute);
  }

  std::int64_t count() const { return trials_; }

  TrialOutline outline(std::int64_t i) {
    TrialOutline outline;
    outline.name = std::to_string(i + 1);  // as MATLAB counts
    const std::vector<std::int64_t> shape =
        features_.by_trial() ? file_.shape_of(features_.element(i), features_.place(i)) : features_.shape();
    if (features_.by_trial() && shape.size() != 2)
      file_.fail(features_.place(i),
                 "has " + std::to_string(shape.size()) + " dimensions; (steps, features) are needed");
    outline.steps = shape[0];
    outline.features = shape[1];
    outline.labels = labels(i);
    outline.one_label = outline.labels.size() == 1;
    outline.session = session(i);
    return outline;
  }

  // (steps, features), row-major, of the first `steps` steps.
  std::vector<float> values(std::int64_t i, std::int64_t steps) {
    const MatArray own = features_.by_trial() ? file_.numbers(features_.element(i), features_.place(i)) : MatArray{};
    const MatArray& array = features_.by_trial() ? own : features_.whole();
    const auto rows = static_cast<std::size_t>(array.shape[0]), columns = static_cast<std::size_t>(array.shape[1]);
    const double* const from =
        array.values.data() + (features_.by_trial() ? 0 : static_cast<std::size_t>(i) * rows * columns);
    std::vector<float> values(static_cast<std::size_t>(steps) * columns);
    for (std::size_t f = 0; f < columns; ++f)
      for (std::size_t t = 0; t < static_cast<std::size_t>(steps); ++t)
        values[t * columns + f] = static_cast<float>(from[f * rows + t]);
    return values;
  }

 private:
  static std::string session_key(const DatasetSpec& spec) { return spec.session_attribute; }

  void require_found(const TrialsOf& trials, const std::string& name, const std::string& key) const {
    if (trials.found()) return;
    std::string held;
    for (const std::string& other : file_.names())
      if (held.size() < 300) held += (held.empty() ? "" : ", ") + other;
    file_.fail("'" + name + "'",
               "is neither a variable nor a field of a struct array (" + key + "); the file has " + held);
  }
  void require_count(const TrialsOf& trials, const std::string& key) const {
    const std::int64_t count = MatFile::elements(trials.shape());
    if (count != trials_)
      file_.fail(key, "holds " + std::to_string(count) + " trials where the features hold " + std::to_string(trials_));
  }

  std::vector<double> labels(std::int64_t i) {
    if (targets_.by_trial()) return file_.numbers(targets_.element(i), targets_.place(i)).values;
    const MatArray& all = targets_.whole();
    if (static_cast<std::int64_t>(all.values.size()) == trials_ && trials_ > 1)
      return {all.values[static_cast<std::size_t>(i)]};
    if (trials_ == 1) return all.values;
    if (all.shape.size() != 2 || all.shape[1] != trials_)
      file_.fail(targets_.place(i), "is not told: an array of labels needs a value a trial, or (steps, trials)");
    const auto rows = static_cast<std::ptrdiff_t>(all.shape[0]);
    return {all.values.begin() + i * rows, all.values.begin() + (i + 1) * rows};
  }

  std::optional<std::string> session(std::int64_t i) {
    if (!sessions_.found()) return std::nullopt;
    if (sessions_.by_trial()) return file_.text_or_number(sessions_.element(i), sessions_.place(i));
    if (!MatFile::is_numeric(sessions_.variable()) || MatFile::elements(sessions_.shape()) == 1) {
      if (one_session_.empty()) one_session_ = file_.text_or_number(sessions_.variable(), sessions_.place(i));
      return one_session_;  // a text: the session of all
    }
    const MatArray& all = sessions_.whole();
    if (static_cast<std::int64_t>(all.values.size()) != trials_)
      file_.fail(sessions_.place(i), "is not told: there are " + std::to_string(all.values.size()) + " sessions for " +
                                         std::to_string(trials_) + " trials");
    return LabelTable::number_name(all.values[static_cast<std::size_t>(i)]);
  }

  const MatFile& file_;
  TrialsOf features_, targets_, sessions_;
  std::int64_t trials_ = 0;
  std::string one_session_;
};

}  // namespace

Dataset::Parts load_mat(const DatasetSpec& spec) {
  if (spec.path.empty()) throw Error(ErrorKind::config, "dataset.path: name the MATLAB file");
  const MatFile file(spec.path);
  MatTrials trials(file, spec);
  SequenceAssembly assembly(spec, spec.path);
  for (std::int64_t i = 0; i < trials.count(); ++i) assembly.add(trials.outline(i));
  return std::move(assembly).finish([&](std::size_t i, const ColumnSelection& columns, std::span<float> values) {
    columns.gather(trials.values(static_cast<std::int64_t>(i), assembly.kept(i)), values);
  });
}

}  // namespace tenfold

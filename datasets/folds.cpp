#include "datasets/folds.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "datasets/group_folds.h"
#include "datasets/philox.h"
#include "experiments/error.h"
#include "experiments/number_text.h"

namespace tenfold {
namespace {

using Indices = std::vector<std::int64_t>;

// Sites of Purpose::folds.
constexpr std::uint64_t kShuffleSite = 0;
constexpr std::uint64_t kClassSite = 1;  // + class
constexpr std::uint64_t kGroupSite = std::uint64_t{1} << 33;

[[noreturn]] void refuse(const std::string& message) { throw Error(ErrorKind::config, message); }

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// The class of each sample that a division may keep even. Where labels belong to steps or to tokens a sample has none:
// all are of one stratum then, and what needs classes has refused before.
struct Strata {
  explicit Strata(const Dataset& dataset) : labels(dataset.labels()), classes(dataset.classes()) {
    if (dataset.label_kind() == LabelKind::sample) return;
    one.assign(at(dataset.size()), 0);
    labels = one;
    classes = 1;
  }
  Strata(const Strata&) = delete;
  Strata& operator=(const Strata&) = delete;
  std::vector<std::int64_t> one;
  std::span<const std::int64_t> labels;  // (N)
  int classes;
};

void require_classes_of_samples(const Dataset& dataset, const std::string& kind) {
  if (dataset.label_kind() == LabelKind::sample) return;
  refuse("folds.kind: " + kind + " needs a class of each sample, and here " +
         (dataset.label_kind() == LabelKind::step ? "each time step has one" : "the next token is predicted") +
         "; use kfold (with folds.repeats to repeat it)" +
         (dataset.groups().empty() ? "" : ", group or leave_one_group_out"));
}

Indices all_indices(std::int64_t n) {
  Indices indices(at(n));
  std::iota(indices.begin(), indices.end(), std::int64_t{0});
  return indices;
}

// The samples of each class, in a random order that `stream_of(class)` gives.
template <class StreamOf>
std::vector<Indices> shuffled_classes(const Indices& indices, std::span<const std::int64_t> labels, int classes,
                                      StreamOf stream_of) {
  std::vector<Indices> members(static_cast<std::size_t>(classes));
  for (const std::int64_t i : indices) members[at(labels[at(i)])].push_back(i);
  for (int c = 0; c < classes; ++c) {
    Indices& of_class = members[static_cast<std::size_t>(c)];
    const Indices order = random_permutation(stream_of(c), static_cast<std::int64_t>(of_class.size()));
    Indices shuffled;
    shuffled.reserve(of_class.size());
    for (const std::int64_t place : order) shuffled.push_back(of_class[at(place)]);
    of_class = std::move(shuffled);
  }
  return members;
}

// Makes the splits of one repeat.
class Splitter {
 public:
  Splitter(const Dataset& dataset, const FoldSpec& spec, int repeat)
      : dataset_(dataset), spec_(spec), repeat_(repeat), indices_(all_indices(dataset.size())), strata_(dataset) {}

  std::vector<Split> splits() {
    const std::string& kind = spec_.kind;
    if (kind == "stratified" || kind == "repeated" || kind == "stratified_group" || kind == "held_out_class")
      require_classes_of_samples(dataset_, kind);
    if (kind == "kfold") return by_fold(kfold(), spec_.k);
    if (kind == "stratified" || kind == "repeated") return by_fold(stratified(), spec_.k);
    if (kind == "group") return by_fold(grouped(balanced_group_folds), spec_.k);
    if (kind == "stratified_group") return by_fold(grouped(stratified_group_folds), spec_.k);
    if (kind == "leave_one_group_out") return leave_one_group_out();
    if (kind == "held_out_class") return held_out_class();
    if (kind == "predefined") return predefined();
    refuse("folds.kind: '" + kind +
           "' is not known; it may be kfold, stratified, group, stratified_group, repeated, leave_one_group_out, "
           "held_out_class or predefined");
  }

 private:
  RandomStream stream(std::uint64_t site) const { return {spec_.seed, Purpose::folds, repeat_, 0, site}; }

  void require_k(std::int64_t limit, const std::string& of_what) const {
    if (spec_.k < 2) refuse("folds.k: needs at least 2 folds, not " + std::to_string(spec_.k));
    if (spec_.k > limit)
      refuse("folds.k: " + std::to_string(spec_.k) + " folds cannot be made of " + of_what + "; use at most " +
             std::to_string(limit) + (limit < 2 ? ", which is too few to hold anything out" : ""));
  }

  void require_groups() const {
    if (dataset_.groups().empty())
      refuse("folds.kind: " + spec_.kind +
             " needs groups, and the dataset has none (dataset.group_column, groups, groups_key, group_count, "
             "session_attribute or a group in file_pattern)");
  }

  std::vector<int> kfold() const {
    require_k(dataset_.size(), std::to_string(dataset_.size()) + " samples");
    const Indices order = random_permutation(stream(kShuffleSite), dataset_.size());
    std::vector<int> fold_of(order.size());
    for (std::size_t place = 0; place < order.size(); ++place)
      fold_of[at(order[place])] = static_cast<int>(place % static_cast<std::size_t>(spec_.k));
    return fold_of;
  }

  // Class after class, each in random order, dealt to the folds in turn without a new start between classes: so
  // class counts and fold sizes both differ by at most one.
  std::vector<int> stratified() const {
    const auto classes = shuffled_classes(indices_, strata_.labels, strata_.classes,
                                          [&](int c) { return stream(kClassSite + static_cast<std::uint64_t>(c)); });
    std::size_t smallest = 0;
    for (std::size_t c = 1; c < classes.size(); ++c)
      if (classes[c].size() < classes[smallest].size()) smallest = c;
    require_k(static_cast<std::int64_t>(classes[smallest].size()),
              std::to_string(classes[smallest].size()) + " samples, as many as class '" +
                  dataset_.class_names()[smallest] + "', the smallest, has");
    std::vector<int> fold_of(indices_.size());
    std::size_t dealt = 0;
    for (const Indices& members : classes)
      for (const std::int64_t i : members)
        fold_of[at(i)] = static_cast<int>(dealt++ % static_cast<std::size_t>(spec_.k));
    return fold_of;
  }

  template <class Divide>
  std::vector<int> grouped(Divide divide) const {
    require_groups();
    const GroupTable table(indices_, strata_.labels, dataset_.groups(), strata_.classes);
    require_k(static_cast<std::int64_t>(table.groups().size()), std::to_string(table.groups().size()) + " groups");
    const std::vector<int> fold_of_group = divide(table, spec_.k, stream(kGroupSite));
    std::vector<int> fold_of(indices_.size());
    for (std::size_t g = 0; g < fold_of_group.size(); ++g)
      for (const std::int64_t i : table.groups()[g].members) fold_of[at(i)] = fold_of_group[g];
    return fold_of;
  }

  // fold_of: by sample; a negative fold is always in training.
  std::vector<Split> by_fold(const std::vector<int>& fold_of, int folds) const {
    std::vector<Split> result(static_cast<std::size_t>(folds));
    for (int fold = 0; fold < folds; ++fold) {
      Split& split = result[static_cast<std::size_t>(fold)];
      split.repeat = repeat_;
      split.fold = fold;
      for (const std::int64_t i : indices_) (fold_of[at(i)] == fold ? split.test : split.train).push_back(i);
    }
    return result;
  }

  // Folds of given values: one for each distinct one, in ascending order.
  std::vector<Split> by_value(std::span<const std::int64_t> values, bool negative_is_training) const {
    const std::set<std::int64_t> distinct(values.begin(), values.end());
    std::vector<std::int64_t> folds;
    for (const std::int64_t value : distinct)
      if (!negative_is_training || value >= 0) folds.push_back(value);
    std::vector<int> fold_of;
    fold_of.reserve(values.size());
    for (const std::int64_t value : values) {
      const auto place = std::lower_bound(folds.begin(), folds.end(), value);
      const bool found = place != folds.end() && *place == value;
      fold_of.push_back(found ? static_cast<int>(place - folds.begin()) : -1);
    }
    return by_fold(fold_of, static_cast<int>(folds.size()));
  }

  std::vector<Split> leave_one_group_out() const {
    require_groups();
    auto result = by_value(dataset_.groups(), false);
    if (result.size() < 2) refuse("folds.kind: leave_one_group_out needs at least 2 groups; the dataset has 1");
    return result;
  }

  std::vector<Split> predefined() const {
    if (dataset_.given_folds().empty())
      refuse("folds.kind: predefined needs a column with the folds, named by dataset.fold_column (csv)");
    auto result = by_value(dataset_.given_folds(), true);
    if (result.empty())
      refuse("folds.kind: predefined: every sample is marked -1, in training always; none is held out");
    for (const Split& split : result)
      if (split.train.empty())
        refuse("folds.kind: predefined: all samples are in one fold, and none is left to train on");
    return result;
  }

  std::vector<Split> held_out_class() const {
    if (dataset_.classes() < 2) refuse("folds.kind: held_out_class needs at least 2 classes");
    const std::vector<int> fold_of = stratified();
    std::vector<Split> result;
    for (int held = 0; held < dataset_.classes(); ++held) {
      Split split;
      split.repeat = repeat_;
      split.fold = held;
      split.held_out_class = held;
      for (const std::int64_t i : indices_) {
        const bool test = dataset_.labels()[at(i)] == held || fold_of[at(i)] == held % spec_.k;
        (test ? split.test : split.train).push_back(i);
      }
      result.push_back(std::move(split));
    }
    return result;
  }

  const Dataset& dataset_;
  const FoldSpec& spec_;
  int repeat_;
  Indices indices_;
  Strata strata_;
};

// A stratified part of the training samples. Classes are laid out one after another in random order, and the
// validation samples taken at even distances: each class gives its share to within one.
Indices stratified_validation(const Strata& strata, const FoldSpec& spec, const Split& split) {
  const auto classes = shuffled_classes(split.train, strata.labels, strata.classes, [&](int c) {
    return RandomStream(spec.seed, Purpose::validation, split.repeat, split.fold,
                        kClassSite + static_cast<std::uint64_t>(c));
  });
  const auto n = static_cast<std::int64_t>(split.train.size());
  const std::int64_t wanted = std::llround(spec.validation * static_cast<double>(n));
  Indices chosen;
  std::int64_t place = 0;
  for (const Indices& members : classes) {
    std::size_t of_class = 0;
    for (const std::int64_t i : members) {
      // Product within 64 bits: neither factor is above 2^31 for what fits in memory.
      const bool take = (place + 1) * wanted / n > place * wanted / n;
      ++place;
      if (!take || of_class + 1 == members.size()) continue;  // one of each class stays in training
      chosen.push_back(i);
      ++of_class;
    }
  }
  if (!chosen.empty() || wanted == 0) return chosen;
  // A small share may have fallen on classes of one sample alone: then the largest class gives it.
  const auto largest = std::max_element(classes.begin(), classes.end(),
                                        [](const Indices& a, const Indices& b) { return a.size() < b.size(); });
  if (largest->size() > 1) chosen.push_back(largest->front());
  return chosen;
}

Indices grouped_validation(const Dataset& dataset, const Strata& strata, const FoldSpec& spec, const Split& split) {
  const GroupTable table(split.train, strata.labels, dataset.groups(), strata.classes);
  Indices chosen;
  for (const std::size_t g : stratified_group_part(
           table, spec.validation, {spec.seed, Purpose::validation, split.repeat, split.fold, kGroupSite}))
    chosen.insert(chosen.end(), table.groups()[g].members.begin(), table.groups()[g].members.end());
  return chosen;
}

bool keeps_groups_whole(const Dataset& dataset, const FoldSpec& spec) {
  return spec.kind == "group" || spec.kind == "stratified_group" || spec.kind == "leave_one_group_out" ||
         (spec.kind == "predefined" && !dataset.groups().empty());
}

void carve_validation(const Dataset& dataset, const FoldSpec& spec, Split& split) {
  const bool grouped = keeps_groups_whole(dataset, spec);
  const Strata strata(dataset);
  Indices chosen =
      grouped ? grouped_validation(dataset, strata, spec, split) : stratified_validation(strata, spec, split);
  if (chosen.empty())
    refuse(
        "folds.validation: " + number_text(spec.validation) + " of the " + std::to_string(split.train.size()) +
        " training samples of fold " + std::to_string(split.fold) +
        (grouped ? " cannot be taken: they are one group; use more groups" : " is not one sample; use a larger share"));
  std::sort(chosen.begin(), chosen.end());
  Indices rest;
  std::set_difference(split.train.begin(), split.train.end(), chosen.begin(), chosen.end(), std::back_inserter(rest));
  split.train = std::move(rest);
  split.validation = std::move(chosen);
}

}  // namespace

Digest Split::hash() const {
  Hasher hasher;
  const std::int64_t head[] = {repeat, fold, held_out_class};
  hasher.update_values(std::span<const std::int64_t>(head));
  for (const Indices* part : {&train, &validation, &test}) {
    const auto count = static_cast<std::uint64_t>(part->size());
    hasher.update(&count, sizeof count);
    hasher.update_values(std::span<const std::int64_t>(*part));
  }
  return hasher.finish();
}

std::vector<Split> make_splits(const Dataset& dataset, const FoldSpec& spec) {
  if (spec.repeats < 1) refuse("folds.repeats: needs at least 1, not " + std::to_string(spec.repeats));
  if (!(spec.validation >= 0.0 && spec.validation < 1.0))
    refuse("folds.validation: must be a share from 0 to below 1, not " + number_text(spec.validation));
  std::vector<Split> result;
  for (int repeat = 0; repeat < spec.repeats; ++repeat)
    for (Split& split : Splitter(dataset, spec, repeat).splits()) {
      if (spec.validation > 0) carve_validation(dataset, spec, split);
      result.push_back(std::move(split));
    }
  return result;
}

}  // namespace tenfold

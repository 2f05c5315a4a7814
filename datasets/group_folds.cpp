#include "datasets/group_folds.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace tenfold {
namespace {

// Places of the groups, heaviest first, each weight blurred by a random factor between 1 and 1.5: without it,
// groups of distinct sizes would fall alike in every repeat.
std::vector<std::size_t> blurred_order(const std::vector<double>& weights, const RandomStream& stream) {
  std::vector<double> keys(weights.size());
  for (std::size_t i = 0; i < weights.size(); ++i)
    keys[i] = weights[i] * (1.0 + 0.5 * static_cast<double>(to_unit_float(stream.word(i))));
  std::vector<std::size_t> order(weights.size());
  RandomStream ties = stream;  // equal weights are in random order
  ties.site_high = ~ties.site_high;
  const std::vector<std::int64_t> shuffled = random_permutation(ties, static_cast<std::int64_t>(weights.size()));
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::size_t>(shuffled[i]);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return keys[a] > keys[b]; });
  return order;
}

// Where as many groups are left as folds are empty, only an empty fold may be chosen.
bool must_take_empty(std::size_t groups_left, const std::vector<std::int64_t>& sizes) {
  return groups_left <= static_cast<std::size_t>(std::count(sizes.begin(), sizes.end(), 0));
}

}  // namespace

GroupTable::GroupTable(std::span<const std::int64_t> indices, std::span<const std::int64_t> labels,
                       std::span<const std::int64_t> groups, int classes)
    : class_totals_(static_cast<std::size_t>(classes), 0), samples_(static_cast<std::int64_t>(indices.size())) {
  std::map<std::int64_t, std::vector<std::int64_t>> members;
  for (const std::int64_t i : indices) {
    members[groups[static_cast<std::size_t>(i)]].push_back(i);
    ++class_totals_[static_cast<std::size_t>(labels[static_cast<std::size_t>(i)])];
  }
  for (auto& [id, of_group] : members) {
    std::map<int, std::int64_t> counts;
    for (const std::int64_t i : of_group) ++counts[static_cast<int>(labels[static_cast<std::size_t>(i)])];
    Group group{id, std::move(of_group), {}};
    for (const auto& [label, count] : counts) group.classes.push_back({label, count});
    groups_.push_back(std::move(group));
  }
}

std::vector<int> balanced_group_folds(const GroupTable& table, int k, const RandomStream& stream) {
  std::vector<double> weights;
  for (const auto& group : table.groups()) weights.push_back(static_cast<double>(group.members.size()));
  std::vector<std::int64_t> sizes(static_cast<std::size_t>(k), 0);
  std::vector<int> fold_of(weights.size());
  for (const std::size_t g : blurred_order(weights, stream)) {
    const auto lightest = std::min_element(sizes.begin(), sizes.end());  // an empty one first
    fold_of[g] = static_cast<int>(lightest - sizes.begin());
    *lightest += static_cast<std::int64_t>(table.groups()[g].members.size());
  }
  return fold_of;
}

std::vector<int> stratified_group_folds(const GroupTable& table, int k, const RandomStream& stream) {
  const auto folds = static_cast<std::size_t>(k), classes = static_cast<std::size_t>(table.classes());
  // Groups whose classes are uneven are hard to place, and placed first.
  std::vector<double> weights;
  for (const auto& group : table.groups()) {
    double squares = 0;
    const double mean = static_cast<double>(group.members.size()) / static_cast<double>(classes);
    for (const auto& c : group.classes) squares += static_cast<double>(c.count) * static_cast<double>(c.count);
    weights.push_back(std::sqrt(std::max(0.0, squares / static_cast<double>(classes) - mean * mean)));
  }

  std::vector<std::int64_t> sizes(folds, 0), counts(folds * classes, 0);
  std::vector<double> sums(classes, 0), squares(classes, 0);  // over folds, of the counts of a class
  std::vector<int> fold_of(weights.size());
  std::size_t left = weights.size();
  for (const std::size_t g : blurred_order(weights, stream)) {
    const auto& group = table.groups()[g];
    const bool only_empty = must_take_empty(left--, sizes);
    std::size_t best = folds;
    double best_spread = 0;
    for (std::size_t fold = 0; fold < folds; ++fold) {
      if (only_empty && sizes[fold] != 0) continue;
      // Spread of each class's share over folds if the group came here. Classes it lacks stay as they are.
      double spread = 0;
      for (const auto& c : group.classes) {
        const auto label = static_cast<std::size_t>(c.label);
        const auto before = static_cast<double>(counts[fold * classes + label]), added = static_cast<double>(c.count);
        const double sum = sums[label] + added;
        const double square = squares[label] + added * (2 * before + added);
        const double variance = std::max(0.0, static_cast<double>(k) * square - sum * sum);
        spread += std::sqrt(variance) / static_cast<double>(table.class_total(c.label));
      }
      constexpr double kTie = 1e-12;
      if (best == folds || spread < best_spread - kTie || (spread <= best_spread + kTie && sizes[fold] < sizes[best])) {
        best = fold;
        best_spread = spread;
      }
    }
    fold_of[g] = static_cast<int>(best);
    sizes[best] += static_cast<std::int64_t>(group.members.size());
    for (const auto& c : group.classes) {
      const auto label = static_cast<std::size_t>(c.label);
      std::int64_t& count = counts[best * classes + label];
      squares[label] += static_cast<double>(c.count) * static_cast<double>(2 * count + c.count);
      sums[label] += static_cast<double>(c.count);
      count += c.count;
    }
  }
  return fold_of;
}

std::vector<std::size_t> stratified_group_part(const GroupTable& table, double share, const RandomStream& stream) {
  const auto& groups = table.groups();
  std::vector<std::size_t> chosen;
  if (groups.size() < 2) return chosen;
  std::vector<std::int64_t> taken(static_cast<std::size_t>(table.classes()), 0);
  const auto total = [&](int label) { return static_cast<double>(table.class_total(label)); };
  const auto empties_a_class = [&](const GroupTable::Group& group) {
    return std::any_of(group.classes.begin(), group.classes.end(), [&](const auto& c) {
      return taken[static_cast<std::size_t>(c.label)] + c.count == table.class_total(c.label);
    });
  };
  const auto take = [&](std::size_t g) {
    chosen.push_back(g);
    for (const auto& c : groups[g].classes) taken[static_cast<std::size_t>(c.label)] += c.count;
  };

  for (const std::int64_t place : random_permutation(stream, static_cast<std::int64_t>(groups.size()))) {
    const auto g = static_cast<std::size_t>(place);
    double change = 0;  // of the squared distance of the shares from the wanted one, weighted by class size
    for (const auto& c : groups[g].classes) {
      const double before = static_cast<double>(taken[static_cast<std::size_t>(c.label)]) / total(c.label) - share;
      const double after = before + static_cast<double>(c.count) / total(c.label);
      change += (after * after - before * before) * total(c.label);
    }
    if (change < 0 && chosen.size() + 1 < groups.size() && !empties_a_class(groups[g])) take(g);
  }
  if (!chosen.empty()) return chosen;

  // Every group is much larger than the share: the smallest, rather one that empties no class.
  std::size_t best = 0;
  const auto key = [&](std::size_t g) { return std::pair(empties_a_class(groups[g]), groups[g].members.size()); };
  for (std::size_t g = 1; g < groups.size(); ++g)
    if (key(g) < key(best)) best = g;
  take(best);
  return chosen;
}

}  // namespace tenfold

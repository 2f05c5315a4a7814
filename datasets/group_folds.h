#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "datasets/philox.h"

// Greedy division of whole groups; see folds.cpp for the kinds that use it.
namespace tenfold {

// Samples by group, and how many of each class each group has.
class GroupTable {
 public:
  // indices: the samples to divide; labels and groups are those of the whole dataset.
  GroupTable(std::span<const std::int64_t> indices, std::span<const std::int64_t> labels,
             std::span<const std::int64_t> groups, int classes);

  struct ClassCount {
    int label;
    std::int64_t count;
  };
  struct Group {
    std::int64_t id;
    std::vector<std::int64_t> members;  // sample indices, ascending
    std::vector<ClassCount> classes;    // those it has
  };
  const std::vector<Group>& groups() const { return groups_; }  // by id
  std::int64_t class_total(int label) const { return class_totals_[static_cast<std::size_t>(label)]; }
  int classes() const { return static_cast<int>(class_totals_.size()); }
  std::int64_t samples() const { return samples_; }

 private:
  std::vector<Group> groups_;
  std::vector<std::int64_t> class_totals_;
  std::int64_t samples_ = 0;
};

// The fold of each group (by its place in the table), none empty; needs at least k groups. Large groups first,
// each to the fold with the fewest samples, so that fold sizes differ by at most the largest group.
std::vector<int> balanced_group_folds(const GroupTable& table, int k, const RandomStream& stream);

// As above, each group to the fold that leaves the shares of the classes most alike between folds.
std::vector<int> stratified_group_folds(const GroupTable& table, int k, const RandomStream& stream);

// Groups (places in the table) whose samples are close to `share` of every class. Never all groups; a class is
// taken wholly only where nothing else could be chosen. Empty when there is one group alone.
std::vector<std::size_t> stratified_group_part(const GroupTable& table, double share, const RandomStream& stream);

}  // namespace tenfold

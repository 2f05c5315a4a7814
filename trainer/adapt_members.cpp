#include "trainer/adapt_members.h"

#include <algorithm>
#include <map>

#include "datasets/philox.h"
#include "experiments/plan.h"

namespace tenfold {
namespace {

void choose_query(AdaptMember& member, std::int64_t first_row) {
  const auto test_n = static_cast<std::int64_t>(member.base.fold->split.test.size());
  for (std::int64_t i = 0; i < test_n; ++i) member.all_rows.push_back(first_row + i);
  const JobMember& job = member.base.job;
  member.query_places = query_places(member.base.spec, job.repeat, job.fold, test_n);
  for (const std::int64_t place : member.query_places) member.query_rows.push_back(first_row + place);
}

}  // namespace

std::vector<std::int64_t> query_places(const ExperimentSpec& spec, int repeat, int fold, std::int64_t test_n) {
  const std::int64_t size = adaptation_set_size(spec, test_n);
  std::vector<std::int64_t> places;
  if (size == test_n) {
    for (std::int64_t i = 0; i < test_n; ++i) places.push_back(i);
    return places;
  }
  places = random_permutation(RandomStream(spec.seed, Purpose::query, repeat, fold, 0), test_n);
  places.resize(static_cast<std::size_t>(size));
  std::sort(places.begin(), places.end());
  return places;
}

std::vector<AdaptMember> prepare_members(std::vector<ArrayMember> bases, std::vector<SampleTable>& test_samples) {
  std::map<const FoldData*, std::int64_t> first_row;  // folds shared by members are stacked once
  std::int64_t rows = 0;
  std::vector<AdaptMember> members;
  for (ArrayMember& base : bases) {
    const auto [place, is_new] = first_row.try_emplace(base.fold.get(), rows);
    if (is_new) {
      test_samples.push_back(base.fold->test);
      rows += base.fold->test.size();
    }
    AdaptMember member;
    member.base = std::move(base);
    member.passes = member.ttt().method == "source" ? 0 : member.ttt().steps.value();
    choose_query(member, place->second);
    members.push_back(std::move(member));
  }
  return members;
}

bool resets_by_batch(std::span<const AdaptMember> members) { return members.front().ttt().reset.value() == "batch"; }

std::vector<Lane> make_lanes(const std::vector<AdaptMember>& members) {
  std::vector<Lane> lanes;
  if (!resets_by_batch(members)) {
    for (std::size_t k = 0; k < members.size(); ++k)
      lanes.push_back({static_cast<std::int32_t>(k), members[k].query_rows});
    return lanes;
  }
  const auto batch = static_cast<std::size_t>(members.front().ttt().batch_size.value());
  std::size_t batches = 0;  // equal in all members, so that a checkpoint is (K, batches, ...)
  for (const AdaptMember& member : members) batches = std::max(batches, (member.query_rows.size() + batch - 1) / batch);
  for (std::size_t k = 0; k < members.size(); ++k) {
    const auto& rows = members[k].query_rows;
    for (std::size_t b = 0; b < batches; ++b) {
      const auto first = rows.begin() + static_cast<std::ptrdiff_t>(std::min(rows.size(), b * batch));
      const auto last = rows.begin() + static_cast<std::ptrdiff_t>(std::min(rows.size(), (b + 1) * batch));
      lanes.push_back({static_cast<std::int32_t>(k), {first, last}});
    }
  }
  return lanes;
}

std::int64_t updates_of_pass(std::span<const Lane> lanes, std::int64_t batch) {
  std::int64_t updates = 1;
  for (const Lane& lane : lanes)
    updates = std::max(updates, (static_cast<std::int64_t>(lane.rows.size()) + batch - 1) / batch);
  return updates;
}

std::vector<std::int32_t> members_of(std::span<const Lane> lanes) {
  std::vector<std::int32_t> members;
  for (const Lane& lane : lanes) members.push_back(lane.member);
  return members;
}

std::vector<ArrayMember> bases_of(std::span<const AdaptMember> members) {
  std::vector<ArrayMember> bases;
  for (const AdaptMember& member : members) bases.push_back(member.base);
  return bases;
}

}  // namespace tenfold

#include "trainer/adapt_batches.h"

#include <algorithm>
#include <numeric>

#include "datasets/philox.h"
#include "trainer/fit_batches.h"

namespace tenfold {

AdaptBatches::AdaptBatches(std::span<const AdaptMember> members, std::span<const Lane> lanes,
                           const SampleTable& samples)
    : samples_(samples),
      by_batch_(resets_by_batch(members)),
      ttt_(members.front().ttt()),
      seed_(members.front().base.spec.seed),
      updates_(updates_of_pass(lanes, ttt_.batch_size.value())),
      bounds_(members.front().base.fold->dataset->length_bounds) {
  if (samples.kind == SampleKind::fixed || by_batch_) return;
  const ArrayMember& base = members.front().base;
  std::vector<std::vector<std::int64_t>> lists;
  for (const Split& split : *base.fold->splits) {
    std::vector<std::int64_t>& list = lists.emplace_back();
    for (const std::int64_t place :
         query_places(base.spec, split.repeat, split.fold, static_cast<std::int64_t>(split.test.size())))
      list.push_back(split.test[static_cast<std::size_t>(place)]);
  }
  plan_ = plan_batches(base.fold->dataset->table.host_counts, lists, ttt_.batch_size.value(), bounds_,
                       base.spec.dataset.length_buckets);
  updates_ = plan_->updates();
}

std::vector<std::int64_t> AdaptBatches::padded_lengths() const {
  return plan_ ? plan_->distinct_lengths() : std::vector<std::int64_t>{longest()};
}

std::int64_t AdaptBatches::longest() const {
  if (plan_) return *std::max_element(plan_->padded_length.begin(), plan_->padded_length.end());
  return bounds_.empty() ? 1 : bounds_.back();
}

const std::vector<std::int64_t>& AdaptBatches::order(const TttSpec& ttt, std::int64_t pass) {
  if (order_pass_ == pass) return order_;
  if (ttt.shuffle.value()) {
    order_ = batch_order(seed_, Purpose::ttt_permutation, pass, updates_);
  } else {
    order_.resize(static_cast<std::size_t>(updates_));
    std::iota(order_.begin(), order_.end(), std::int64_t{0});
  }
  order_pass_ = pass;
  return order_;
}

std::int64_t AdaptBatches::padded_length(std::int64_t pass, std::int64_t update) {
  if (!plan_) return longest();
  return plan_->padded_length[static_cast<std::size_t>(order(ttt_, pass)[static_cast<std::size_t>(update)])];
}

std::vector<std::vector<std::int64_t>> AdaptBatches::batches(const AdaptMember& member, const Lane& lane,
                                                             std::int64_t pass) {
  const JobMember& job = member.base.job;
  const bool shuffles = member.ttt().shuffle.value() && !by_batch_;
  std::vector<std::vector<std::int64_t>> batches;
  if (plan_) {
    const auto count = static_cast<std::int64_t>(lane.rows.size());
    std::vector<std::int64_t> places(lane.rows.size());
    std::iota(places.begin(), places.end(), std::int64_t{0});
    if (shuffles)
      places = random_permutation(RandomStream(member.base.spec.seed, Purpose::ttt_permutation, job.repeat, job.fold,
                                               static_cast<std::uint64_t>(pass)),
                                  count);
    auto dealt = deal_batches(*plan_, samples_.host_counts, lane.rows, places);
    for (const std::int64_t j : order(member.ttt(), pass))
      batches.push_back(std::move(dealt[static_cast<std::size_t>(j)]));
    return batches;
  }
  const std::vector<std::int64_t> rows =
      shuffles ? shuffled(lane.rows, member.base.spec, Purpose::ttt_permutation, job.repeat, job.fold, pass)
               : lane.rows;
  const auto batch = static_cast<std::size_t>(ttt_.batch_size.value());
  for (std::size_t first = 0; first < rows.size(); first += batch)
    batches.emplace_back(rows.begin() + static_cast<std::ptrdiff_t>(first),
                         rows.begin() + static_cast<std::ptrdiff_t>(std::min(first + batch, rows.size())));
  return batches;
}

}  // namespace tenfold

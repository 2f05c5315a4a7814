#include "trainer/fit_batches.h"

#include <algorithm>

#include "datasets/philox.h"

namespace tenfold {

std::vector<std::int64_t> batch_order(std::uint64_t seed, Purpose purpose, std::int64_t epoch, std::int64_t batches) {
  // Epochs of samples' permutations are sites below this one.
  constexpr std::uint64_t kBatchSite = std::uint64_t{1} << 40;
  return random_permutation(RandomStream(seed, purpose, 0, 0, kBatchSite + static_cast<std::uint64_t>(epoch)), batches);
}

FitBatches::FitBatches(const ArrayMember& member) : seed_(member.spec.seed), batch_size_(member.spec.train.batch_size) {
  const DeviceDataset& dataset = *member.fold->dataset;
  if (dataset.table.kind == SampleKind::fixed) return;
  counts_ = dataset.table.host_counts;
  std::vector<std::vector<std::int64_t>> lists;
  for (const Split& split : *member.fold->splits) lists.push_back(split.train);
  plan_ = plan_batches(counts_, lists, batch_size_, dataset.length_bounds, member.spec.dataset.length_buckets);
}

std::vector<std::int64_t> FitBatches::padded_lengths() const {
  return plan_ ? plan_->distinct_lengths() : std::vector<std::int64_t>{1};
}

const std::vector<std::int64_t>& FitBatches::order(std::int64_t epoch) {
  if (order_epoch_ != epoch) {
    order_ = batch_order(seed_, Purpose::train_permutation, epoch, plan_->updates());
    order_epoch_ = epoch;
  }
  return order_;
}

std::int64_t FitBatches::padded_length(std::int64_t epoch, std::int64_t update) {
  if (!plan_) return 1;
  return plan_->padded_length[static_cast<std::size_t>(order(epoch)[static_cast<std::size_t>(update)])];
}

FitBatches::Taken FitBatches::take(FitMember& member, std::int64_t epoch, std::int64_t update) {
  const JobMember& job = member.base.job;
  const std::vector<std::int64_t>& train = member.base.fold->split.train;
  const std::int64_t position = update * batch_size_;
  if (epoch != member.cached_epoch) {
    if (plan_) {
      const RandomStream stream(member.base.spec.seed, Purpose::train_permutation, job.repeat, job.fold,
                                static_cast<std::uint64_t>(epoch));
      member.batches =
          deal_batches(*plan_, counts_, train, random_permutation(stream, static_cast<std::int64_t>(train.size())));
    } else {
      member.order = shuffled(train, member.base.spec, Purpose::train_permutation, job.repeat, job.fold, epoch);
    }
    member.cached_epoch = epoch;
  }
  if (plan_)
    return {member.batches[static_cast<std::size_t>(order(epoch)[static_cast<std::size_t>(update)])], position};
  const auto count = std::min<std::int64_t>(batch_size_, static_cast<std::int64_t>(member.order.size()) - position);
  return {std::span(member.order).subspan(static_cast<std::size_t>(position), static_cast<std::size_t>(count)),
          position};
}

}  // namespace tenfold

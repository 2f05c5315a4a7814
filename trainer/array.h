#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "experiments/experiment.h"
#include "experiments/fault_point.h"
#include "trainer/checkpoint.h"
#include "trainer/compute.h"
#include "trainer/fold_data.h"
#include "trainer/model.h"
#include "trainer/protocol.h"
#include "trainer/reporter.h"

// What the two kinds of arrays share: fits (fit_array.h) and adaptations (adapt_array.h).
namespace tenfold {

struct ArrayMember {
  ExperimentSpec spec;
  std::shared_ptr<const FoldData> fold;
  JobMember job;
};

struct ArrayContext {
  Compute& compute;
  Reporter& reporter;
  const ArrayJob& job;
  Collective* group = nullptr;    // null: one trainer computes the array
  std::int64_t bucket_bytes = 0;  // of a group's gradients (gradient_buckets.h)

  bool leads() const { return group == nullptr || group->leads(); }
  BatchShare share() const { return group != nullptr ? group->share() : BatchShare{}; }
  void await_all() const {
    if (group != nullptr) group->await_all();
  }
  std::int64_t leaders(std::int64_t value) const { return group != nullptr ? group->leaders(value) : value; }
};

// Steps computed between two looks at the host: rows are read back, drains and checkpoints seen.
inline constexpr std::int64_t kStepBlock = 64;

// Steps of a group on a device, which other ranks must join: they are watched while this lives. They begin when all
// ranks are there: one that still reads its data or writes a checkpoint is slow, and must not look like a device that
// waits for ever.
class WatchedWork {
 public:
  // `from`: the step that comes next, or the pass of an adaptation; -1: neither.
  explicit WatchedWork(Collective* group, std::int64_t from = -1) : group_(group) {
    if (group_ == nullptr) return;
    group_->await_all();
    if (from >= 0) fault_point("together", from);
    group_->watch(true);
  }
  ~WatchedWork() {
    if (group_ != nullptr) group_->watch(false);
  }
  WatchedWork(const WatchedWork&) = delete;
  WatchedWork& operator=(const WatchedWork&) = delete;

 private:
  Collective* group_;
};

// What an array is to do between two blocks of steps. In a group all do as its leader says.
struct LeadersWish {
  bool drain, checkpoint;
};
LeadersWish leaders_wish(const ArrayContext& context, bool checkpoint_due);

// For an evaluation that can begin anew when the run goes on (EvaluationPlan::give_up): whether a drain came. Empty in
// a group, whose ranks would have to agree on it.
std::function<bool()> drain_watch(const ArrayContext& context);

// Seconds that a fit computes between two looks at the clock and at what it is asked.
inline constexpr double kBlock_s = 1;

// What changes from step to step, for T steps of K members: made on the host, read by `Compute::row`. Tensors keep
// their addresses, so that a captured step goes on reading them. In a group the tables hold the rank's part of every
// batch.
class StepTables {
 public:
  StepTables(const Compute& compute, std::int64_t steps, std::int64_t members, std::int64_t batch,
             BatchShare share = {});
  std::int64_t steps() const { return host_indices_.size(0); }
  void clear();  // every member at rest
  // `rows` are the real samples of member k's step t, at most `batch` of them, of all ranks; the rest is padding.
  // `labels`: what the batch's mean loss is over, where a group needs to know.
  void set(std::int64_t t, std::int64_t k, std::span<const std::int64_t> rows, double lr, std::int64_t epoch,
           std::int64_t position, double momentum, std::int64_t labels = 0);
  void upload(DropoutTables& dropout);
  std::int64_t count(std::int64_t t, std::int64_t k) const;  // real samples, of all ranks
  std::int64_t count_of_rank(std::int64_t t, std::int64_t k, std::int64_t rank) const;
  double rate(std::int64_t t, std::int64_t k) const {
    return host_lr_.const_data_ptr<float>()[t * host_lr_.size(1) + k];
  }

  at::Tensor indices;   // (T, K, B) int64
  at::Tensor weights;   // (T, K, B) float
  at::Tensor lr;        // (T, K) float
  at::Tensor active;    // (T, K) float
  at::Tensor momentum;  // (T, K) float: of batch norm's running statistics
  at::Tensor labels;    // (T, K) float: of the whole batch

 private:
  BatchShare share_;
  at::Tensor host_indices_, host_weights_, host_lr_, host_active_, host_momentum_, host_labels_, host_epoch_,
      host_position_, host_counts_;
  at::Tensor device_epoch_, device_position_;
};

// Stacks (1, ...) states of the members to (K, ...) on the device.
ModelState stack_states(std::span<const ModelState> members, const at::Device& device);

// Keys and probabilities of lanes (see adapt_array.h; a fit has one lane per member): lane i is of
// members[lane_member[i]].
DropoutTables dropout_tables(std::span<const ArrayMember> members, std::span<const std::int32_t> lane_member,
                             Purpose purpose, const at::Device& device);

// model.ttt.base_lr of every lane, (lanes) on the device; undefined where the model has no inner loop.
at::Tensor inner_rates(std::span<const ArrayMember> members, std::span<const std::int32_t> lane_member,
                       const at::Device& device);

std::vector<at::Tensor> chosen(const std::vector<at::Tensor>& tensors, const std::vector<std::size_t>& places);

// "parameter/<name>" and "buffer/<name>" of a checkpoint.
void save_state(const Model& model, const ModelState& state, StackedTensors& tensors);
void restore_state(const Model& model, const MemberTensors& member, ModelState& state, std::int64_t k);

// The samples and their order of a member's epoch: Philox of (seed, fold, epoch).
std::vector<std::int64_t> shuffled(std::span<const std::int64_t> rows, const ExperimentSpec& spec, Purpose purpose,
                                   int repeat, int fold, std::int64_t epoch);

double seconds_since(std::chrono::steady_clock::time_point start);

}  // namespace tenfold

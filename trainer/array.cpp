#include "trainer/array.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "trainer/checkpoint.h"

namespace tenfold {

StepTables::StepTables(const Compute& compute, std::int64_t steps, std::int64_t members, std::int64_t batch,
                       BatchShare share)
    : share_(share) {
  batch = share.part(batch);
  host_indices_ = at::zeros({steps, members, batch}, at::kLong);
  host_weights_ = at::zeros({steps, members, batch}, at::kFloat);
  host_lr_ = at::zeros({steps, members}, at::kFloat);
  host_active_ = at::zeros({steps, members}, at::kFloat);
  host_momentum_ = at::zeros({steps, members}, at::kFloat);
  host_labels_ = at::zeros({steps, members}, at::kFloat);
  host_counts_ = at::zeros({steps, members}, at::kLong);
  host_epoch_ = at::zeros({steps, members}, at::kLong);
  host_position_ = at::zeros({steps, members}, at::kLong);
  // On a CPU `to` gives the host's tensor itself: nothing is copied.
  const at::Device device = compute.device();
  indices = host_indices_.to(device);
  weights = host_weights_.to(device);
  lr = host_lr_.to(device);
  active = host_active_.to(device);
  momentum = host_momentum_.to(device);
  labels = host_labels_.to(device);
  device_epoch_ = host_epoch_.to(device);
  device_position_ = host_position_.to(device);
}

void StepTables::clear() {
  host_indices_.zero_();
  host_weights_.zero_();
  host_lr_.zero_();
  host_active_.zero_();
  host_momentum_.zero_();
  host_labels_.zero_();
  host_counts_.zero_();
  host_epoch_.zero_();
  host_position_.zero_();
}

void StepTables::set(std::int64_t t, std::int64_t k, std::span<const std::int64_t> whole, double rate,
                     std::int64_t epoch, std::int64_t position, double buffer_momentum, std::int64_t label_count) {
  const std::int64_t place = t * host_lr_.size(1) + k, batch = host_indices_.size(2);
  const auto first = std::min(whole.size(), static_cast<std::size_t>(share_.rank * batch));
  const auto rows = whole.subspan(first, std::min(whole.size() - first, static_cast<std::size_t>(batch)));
  std::copy(rows.begin(), rows.end(), host_indices_.mutable_data_ptr<std::int64_t>() + place * batch);
  std::fill_n(host_weights_.mutable_data_ptr<float>() + place * batch, rows.size(), 1.0f);
  host_lr_.mutable_data_ptr<float>()[place] = static_cast<float>(rate);
  host_active_.mutable_data_ptr<float>()[place] = whole.empty() ? 0.0f : 1.0f;
  host_momentum_.mutable_data_ptr<float>()[place] = static_cast<float>(buffer_momentum);
  host_epoch_.mutable_data_ptr<std::int64_t>()[place] = epoch;
  host_position_.mutable_data_ptr<std::int64_t>()[place] = position + share_.rank * batch;
  host_labels_.mutable_data_ptr<float>()[place] = static_cast<float>(label_count);
  host_counts_.mutable_data_ptr<std::int64_t>()[place] = static_cast<std::int64_t>(whole.size());
}

void StepTables::upload(DropoutTables& dropout) {
  const auto copy = [](at::Tensor& to, const at::Tensor& from) {
    if (!to.is_same(from)) to.copy_(from);
  };
  copy(indices, host_indices_);
  copy(weights, host_weights_);
  copy(lr, host_lr_);
  copy(active, host_active_);
  copy(momentum, host_momentum_);
  copy(labels, host_labels_);
  copy(device_epoch_, host_epoch_);
  copy(device_position_, host_position_);
  dropout.epoch = device_epoch_;
  dropout.position = device_position_;
}

std::int64_t StepTables::count(std::int64_t t, std::int64_t k) const {
  return host_counts_.const_data_ptr<std::int64_t>()[t * host_lr_.size(1) + k];
}

std::int64_t StepTables::count_of_rank(std::int64_t t, std::int64_t k, std::int64_t rank) const {
  const std::int64_t batch = host_indices_.size(2);
  return std::clamp<std::int64_t>(count(t, k) - rank * batch, 0, batch);
}

LeadersWish leaders_wish(const ArrayContext& context, bool checkpoint_due) {
  const std::int64_t wish = context.leaders((context.reporter.drain_requested() ? 1 : 0) + (checkpoint_due ? 2 : 0));
  return {(wish & 1) != 0, (wish & 2) != 0};
}

std::function<bool()> drain_watch(const ArrayContext& context) {
  if (context.group != nullptr) return {};
  return [&reporter = context.reporter] { return reporter.drain_requested(); };
}

ModelState stack_states(std::span<const ModelState> members, const at::Device& device) {
  const auto stack = [&](std::vector<at::Tensor> ModelState::*field, std::size_t i) {
    std::vector<at::Tensor> slices;
    for (const ModelState& member : members) slices.push_back((member.*field)[i]);
    return at::cat(slices, 0).to(device).contiguous();
  };
  ModelState state;
  for (std::size_t i = 0; i < members.front().parameters.size(); ++i)
    state.parameters.push_back(stack(&ModelState::parameters, i));
  for (std::size_t i = 0; i < members.front().buffers.size(); ++i)
    state.buffers.push_back(stack(&ModelState::buffers, i));
  return state;
}

DropoutTables dropout_tables(std::span<const ArrayMember> members, std::span<const std::int32_t> lane_member,
                             Purpose purpose, const at::Device& device) {
  DropoutTables tables;
  for (const std::int32_t index : lane_member) {
    const ArrayMember& member = members[static_cast<std::size_t>(index)];
    tables.keys.push_back(RandomStream(member.spec.seed, purpose, member.job.repeat, member.job.fold, 0).key);
    tables.probability.push_back(static_cast<float>(member.spec.model.dropout));
  }
  if (!device.is_cpu()) {
    const auto lanes = static_cast<std::int64_t>(tables.keys.size());
    at::Tensor keys = at::empty({lanes, 2}, at::kLong);
    for (std::int64_t i = 0; i < lanes; ++i)
      for (std::int64_t j = 0; j < 2; ++j)
        keys[i][j] = static_cast<std::int64_t>(tables.keys[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)]);
    tables.device_keys = keys.to(device);
    tables.device_probability = at::tensor(tables.probability, at::kFloat).to(device);
  }
  return tables;
}

at::Tensor inner_rates(std::span<const ArrayMember> members, std::span<const std::int32_t> lane_member,
                       const at::Device& device) {
  std::vector<float> rates;
  for (const std::int32_t index : lane_member) {
    const std::optional<double>& rate = members[static_cast<std::size_t>(index)].spec.model.ttt.base_lr;
    if (!rate) return {};
    rates.push_back(static_cast<float>(*rate));
  }
  return at::tensor(rates, at::kFloat).to(device);
}

std::vector<at::Tensor> chosen(const std::vector<at::Tensor>& tensors, const std::vector<std::size_t>& places) {
  std::vector<at::Tensor> some;
  for (const std::size_t place : places) some.push_back(tensors[place]);
  return some;
}

void save_state(const Model& model, const ModelState& state, StackedTensors& tensors) {
  const ModelLayout& layout = model.layout();
  for (std::size_t i = 0; i < layout.parameters.size(); ++i)
    tensors["parameter/" + layout.parameters[i].name] = state.parameters[i];
  for (std::size_t i = 0; i < layout.buffers.size(); ++i)
    tensors["buffer/" + layout.buffers[i].name] = state.buffers[i];
}

void restore_state(const Model& model, const MemberTensors& member, ModelState& state, std::int64_t k) {
  const ModelLayout& layout = model.layout();
  for (std::size_t i = 0; i < layout.parameters.size(); ++i)
    restore(member, "parameter/" + layout.parameters[i].name, state.parameters[i], k);
  for (std::size_t i = 0; i < layout.buffers.size(); ++i)
    restore(member, "buffer/" + layout.buffers[i].name, state.buffers[i], k);
}

std::vector<std::int64_t> shuffled(std::span<const std::int64_t> rows, const ExperimentSpec& spec, Purpose purpose,
                                   int repeat, int fold, std::int64_t epoch) {
  const RandomStream stream(spec.seed, purpose, repeat, fold, static_cast<std::uint64_t>(epoch));
  std::vector<std::int64_t> order = random_permutation(stream, static_cast<std::int64_t>(rows.size()));
  for (std::int64_t& place : order) place = rows[static_cast<std::size_t>(place)];
  return order;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace tenfold

#include "trainer/sample_table.h"

#include <ATen/ATen.h>

namespace tenfold {
namespace {

template <class T>
at::Tensor view_of(std::span<const T> values, std::vector<std::int64_t> shape, at::ScalarType type, at::Device device) {
  // from_blob wants a mutable pointer; nothing writes to these tensors.
  return at::from_blob(const_cast<T*>(values.data()), shape, type).to(device);
}

}  // namespace

SampleTable sample_table(const Dataset& host, at::Device device) {
  SampleTable table;
  table.kind = host.kind();
  if (table.kind == SampleKind::fixed) {
    table.values = view_of(host.samples(), {host.size(), host.features()}, at::kFloat, device);
    return table;
  }
  if (table.kind == SampleKind::tokens) {
    table.values = view_of(host.tokens(), {static_cast<std::int64_t>(host.tokens().size())}, at::kInt, device);
  } else {
    const auto steps = static_cast<std::int64_t>(host.samples().size()) / host.features();
    table.values = view_of(host.samples(), {steps, host.features()}, at::kFloat, device);
  }
  table.starts = view_of(host.starts(), {host.size()}, at::kLong, device);
  for (std::int64_t i = 0; i < host.size(); ++i) table.host_counts.push_back(host.steps(i));
  table.counts = at::tensor(table.host_counts, at::kLong).to(device);
  return table;
}

at::Tensor integers_of(std::span<const std::int64_t> values, at::Device device) {
  return view_of(values, {static_cast<std::int64_t>(values.size())}, at::kLong, device);
}

SampleTable chosen_samples(const SampleTable& table, std::span<const std::int64_t> indices) {
  SampleTable chosen;
  chosen.kind = table.kind;
  const at::Tensor places = at::tensor(indices, at::kLong).to(table.values.device());
  if (table.kind == SampleKind::fixed) {
    chosen.values = table.values.index_select(0, places);
    return chosen;
  }
  for (const std::int64_t i : indices) chosen.host_counts.push_back(table.host_counts[static_cast<std::size_t>(i)]);
  chosen.counts = table.counts.index_select(0, places);
  if (table.kind == SampleKind::tokens) {
    chosen.values = table.values;
    chosen.starts = table.starts.index_select(0, places);
    return chosen;
  }
  std::vector<at::Tensor> parts;
  std::vector<std::int64_t> starts;
  std::int64_t next = 0;
  const at::Tensor first = table.starts.cpu();
  for (const std::int64_t i : indices) {
    const std::int64_t steps = table.host_counts[static_cast<std::size_t>(i)];
    parts.push_back(table.values.narrow(0, first.const_data_ptr<std::int64_t>()[i], steps));
    starts.push_back(next);
    next += steps;
  }
  chosen.values = at::cat(parts, 0);
  chosen.starts = at::tensor(starts, at::kLong).to(table.values.device());
  return chosen;
}

SampleTable concatenated(std::span<const SampleTable> tables) {
  if (tables.size() == 1) return tables.front();
  SampleTable all;
  all.kind = tables.front().kind;
  std::vector<at::Tensor> values, starts, counts;
  std::int64_t first_step = 0;
  bool shared = true;
  for (const SampleTable& table : tables) shared &= table.values.is_same(tables.front().values);
  for (const SampleTable& table : tables) {
    values.push_back(table.values);
    if (all.kind == SampleKind::fixed) continue;
    starts.push_back(table.starts + (shared ? 0 : first_step));
    counts.push_back(table.counts);
    all.host_counts.insert(all.host_counts.end(), table.host_counts.begin(), table.host_counts.end());
    first_step += table.values.size(0);
  }
  // Fixed samples are addressed by their place, so each table needs rows of its own.
  all.values = shared && all.kind != SampleKind::fixed ? tables.front().values : at::cat(values, 0);
  if (all.kind == SampleKind::fixed) return all;
  all.starts = at::cat(starts, 0);
  all.counts = at::cat(counts, 0);
  return all;
}

StepRows step_rows(const SampleTable& table, const at::Tensor& indices, const at::Tensor& sample_weight,
                   std::int64_t length) {
  at::NoGradGuard no_grad;
  const at::Tensor flat = indices.flatten();
  const at::Tensor shape_like = indices.unsqueeze(-1);  // (K, B, 1)
  const at::Tensor starts = table.starts.index_select(0, flat).view_as(shape_like);
  const at::Tensor counts = table.counts.index_select(0, flat).view_as(shape_like);
  const at::Tensor step = at::arange(length, starts.options());  // (T)
  StepRows steps;
  steps.rows = starts + at::minimum(step, counts - 1);
  steps.weight = (step < counts).to(at::kFloat) * sample_weight.unsqueeze(-1);
  return steps;
}

Batch gather_batch(const SampleTable& table, const at::Tensor& indices, const at::Tensor& sample_weight,
                   std::int64_t length) {
  at::NoGradGuard no_grad;
  const std::int64_t members = indices.size(0), batch = indices.size(1);
  if (table.kind == SampleKind::fixed)
    return {table.values.index_select(0, indices.flatten()).view({members, batch, table.values.size(1)}), {}};
  const StepRows steps = step_rows(table, indices, sample_weight, length);
  const at::Tensor chosen = table.values.index_select(0, steps.rows.flatten());
  if (table.kind == SampleKind::tokens)
    return {chosen.to(at::kLong).view_as(steps.rows) * steps.weight.to(at::kLong), steps.weight};
  return {chosen.view({members, batch, length, table.values.size(1)}).mul_(steps.weight.unsqueeze(-1)), steps.weight};
}

at::Tensor next_tokens(const SampleTable& table, const StepRows& steps) {
  at::NoGradGuard no_grad;
  return table.values.index_select(0, steps.rows.flatten() + 1).to(at::kLong).view({steps.rows.size(0), -1});
}

at::Tensor row_weights(LabelKind labels, const Batch& batch, const at::Tensor& sample_weight) {
  return labels == LabelKind::sample ? sample_weight : batch.step_weight.flatten(1);
}

}  // namespace tenfold

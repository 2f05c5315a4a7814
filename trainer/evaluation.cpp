#include "trainer/evaluation.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "datasets/length_buckets.h"

namespace tenfold {
namespace {

// Steps of a batch of sequences: enough to fill a GPU, few enough for the logits of many members.
constexpr std::int64_t kEvaluationSteps = 8192;

using Lists = std::vector<std::vector<std::int64_t>>;

// Samples of one batch: by member the places in its list.
struct Chunk {
  std::int64_t length;  // padded
  Lists places;         // at most batch_size each
  std::int64_t batch_size;
};

std::vector<std::int64_t> part_of(const std::vector<std::int64_t>& list, BatchShare share) {
  const std::int64_t count = static_cast<std::int64_t>(list.size()), part = share.part(count);
  return {list.begin() + std::min(count, share.rank * part), list.begin() + std::min(count, (share.rank + 1) * part)};
}

// What a rank has not evaluated is 0 in its own.
template <class Value>
void add_parts(Collective* group, std::vector<Value>& values) {
  if (group == nullptr || values.empty()) return;
  std::vector<double> sums(values.begin(), values.end());
  group->sum(std::span<double>(sums));
  std::transform(sums.begin(), sums.end(), values.begin(), [](double sum) { return static_cast<Value>(sum); });
}

std::vector<Chunk> chunks_of(const Lists& rows, const EvaluationPlan& plan) {
  const std::size_t buckets = std::max<std::size_t>(1, plan.length_bounds.size());
  std::vector<Lists> by_bucket(buckets, Lists(rows.size()));
  for (std::size_t k = 0; k < rows.size(); ++k)
    for (std::size_t i = 0; i < rows[k].size(); ++i) {
      const std::size_t bucket =
          plan.counts.empty() ? 0 : bucket_of(plan.length_bounds, plan.counts[static_cast<std::size_t>(rows[k][i])]);
      by_bucket[bucket][k].push_back(static_cast<std::int64_t>(i));
    }
  if (plan.group != nullptr)
    for (Lists& lists : by_bucket)
      for (auto& list : lists) list = part_of(list, plan.group->share());
  std::vector<Chunk> chunks;
  for (std::size_t b = 0; b < buckets; ++b) {
    const std::int64_t length = plan.length_bounds.empty() ? 1 : plan.length_bounds[b];
    const std::int64_t size = plan.batch_size > 0
                                  ? plan.batch_size
                                  : std::clamp<std::int64_t>(kEvaluationSteps / length, 1, kEvaluationBatch);
    std::size_t longest = 0;
    for (const auto& list : by_bucket[b]) longest = std::max(longest, list.size());
    for (std::size_t first = 0; first < longest; first += static_cast<std::size_t>(size)) {
      Chunk chunk{length, Lists(rows.size()), size};
      for (std::size_t k = 0; k < rows.size(); ++k) {
        const auto& list = by_bucket[b][k];
        const auto begin = list.begin() + static_cast<std::ptrdiff_t>(std::min(first, list.size()));
        const auto end =
            list.begin() + static_cast<std::ptrdiff_t>(std::min(first + static_cast<std::size_t>(size), list.size()));
        chunk.places[k].assign(begin, end);
      }
      chunks.push_back(std::move(chunk));
    }
  }
  return chunks;
}

struct ChunkTensors {
  at::Tensor indices, sample_weight;  // (K, batch_size)
};

ChunkTensors upload(const Chunk& chunk, const Lists& rows, const at::Device& device) {
  const auto members = static_cast<std::int64_t>(rows.size());
  at::Tensor indices = at::zeros({members, chunk.batch_size}, at::kLong);
  at::Tensor weight = at::zeros({members, chunk.batch_size}, at::kFloat);
  for (std::int64_t k = 0; k < members; ++k) {
    const auto& list = rows[static_cast<std::size_t>(k)];
    const auto& places = chunk.places[static_cast<std::size_t>(k)];
    for (std::size_t i = 0; i < places.size(); ++i) {
      const std::int64_t at = k * chunk.batch_size + static_cast<std::int64_t>(i);
      indices.mutable_data_ptr<std::int64_t>()[at] = list[static_cast<std::size_t>(places[i])];
      weight.mutable_data_ptr<float>()[at] = 1;
    }
  }
  return {indices.to(device), weight.to(device)};
}

// Where the rows of a list's samples begin, and at last how many there are.
std::vector<std::int64_t> row_starts(const std::vector<std::int64_t>& list, const EvaluationPlan& plan, bool by_step) {
  std::vector<std::int64_t> starts{0};
  for (const std::int64_t index : list)
    starts.push_back(starts.back() + (by_step ? plan.counts[static_cast<std::size_t>(index)] : 1));
  return starts;
}

// Calls take(member, sample's first row of the result, its first row in the chunk, rows) for all of a chunk.
template <class Take>
void take_rows(const Chunk& chunk, const Lists& rows, const EvaluationPlan& plan, bool by_step,
               const std::vector<std::vector<std::int64_t>>& starts, Take take) {
  for (std::size_t k = 0; k < rows.size(); ++k)
    for (std::size_t i = 0; i < chunk.places[k].size(); ++i) {
      const auto place = static_cast<std::size_t>(chunk.places[k][i]);
      const std::int64_t count = by_step ? plan.counts[static_cast<std::size_t>(rows[k][place])] : 1;
      take(k, starts[k][place], static_cast<std::int64_t>(i) * (by_step ? chunk.length : 1), count);
    }
}

}  // namespace

EvaluationPlan evaluation_plan(const Model& model, const SampleTable& table, std::vector<std::int64_t> length_bounds,
                               std::int64_t mixing_batch, std::int64_t fixed_batch) {
  if (table.kind == SampleKind::fixed) return {{}, {}, fixed_batch};
  return {table.host_counts, std::move(length_bounds), model.mixes_samples() ? mixing_batch : 0};
}

std::vector<std::vector<float>> evaluate_logits(const Model& model, ModelState& state, const Lists& rows,
                                                const BatchGatherer& gather, const EvaluationPlan& plan,
                                                const ForwardMode& given) {
  at::NoGradGuard no_grad;
  const bool by_step = model.data().label_kind == LabelKind::step;
  const auto classes = static_cast<std::int64_t>(model.data().classes);
  std::vector<std::vector<std::int64_t>> starts;
  std::vector<std::vector<float>> logits;
  for (const auto& list : rows) {
    starts.push_back(row_starts(list, plan, by_step));
    logits.emplace_back(static_cast<std::size_t>(starts.back().back() * classes));
  }
  const at::Device device = state.parameters.front().device();
  for (const Chunk& chunk : chunks_of(rows, plan)) {
    if (plan.give_up && plan.give_up()) throw EvaluationGivenUp();
    const ChunkTensors tensors = upload(chunk, rows, device);
    ForwardMode mode = given;
    mode.sample_weight = tensors.sample_weight;
    const at::Tensor out =
        model.forward(state, gather(tensors.indices, tensors.sample_weight, chunk.length), mode).contiguous().cpu();
    const float* data = out.const_data_ptr<float>();
    take_rows(chunk, rows, plan, by_step, starts,
              [&](std::size_t k, std::int64_t to, std::int64_t from, std::int64_t count) {
                std::copy_n(data + (static_cast<std::int64_t>(k) * out.size(1) + from) * classes, count * classes,
                            logits[k].begin() + to * classes);
              });
  }
  for (std::vector<float>& list : logits) add_parts(plan.group, list);
  return logits;
}

std::vector<TokenScores> evaluate_tokens(const Model& model, ModelState& state, const Lists& rows,
                                         const SampleTable& table, const EvaluationPlan& plan,
                                         const ForwardMode& given) {
  at::NoGradGuard no_grad;
  std::vector<std::vector<std::int64_t>> starts;
  std::vector<TokenScores> scores(rows.size());
  for (std::size_t k = 0; k < rows.size(); ++k) {
    starts.push_back(row_starts(rows[k], plan, true));
    const auto steps = static_cast<std::size_t>(starts.back().back());
    scores[k] = {std::vector<float>(steps), std::vector<float>(steps), std::vector<std::uint8_t>(steps),
                 std::vector<std::int64_t>(steps)};
  }
  const at::Device device = state.parameters.front().device();
  for (const Chunk& chunk : chunks_of(rows, plan)) {
    if (plan.give_up && plan.give_up()) throw EvaluationGivenUp();
    const ChunkTensors tensors = upload(chunk, rows, device);
    ForwardMode mode = given;
    mode.sample_weight = tensors.sample_weight;
    const at::Tensor target =
        next_tokens(table, step_rows(table, tensors.indices, tensors.sample_weight, chunk.length));
    const at::Tensor log_p = at::log_softmax(
        model.forward(state, gather_batch(table, tensors.indices, tensors.sample_weight, chunk.length), mode), -1);
    const at::Tensor nll = log_p.gather(-1, target.unsqueeze(-1)).squeeze(-1).neg().cpu();
    const auto [best, likeliest] = log_p.max(-1);
    const at::Tensor confidence = best.exp().cpu(), hit = (likeliest == target).to(at::kByte).cpu();
    const at::Tensor targets = target.cpu();
    take_rows(chunk, rows, plan, true, starts,
              [&](std::size_t k, std::int64_t to, std::int64_t from, std::int64_t count) {
                const std::int64_t at = static_cast<std::int64_t>(k) * target.size(1) + from;
                std::copy_n(nll.const_data_ptr<float>() + at, count, scores[k].nll.begin() + to);
                std::copy_n(confidence.const_data_ptr<float>() + at, count, scores[k].confidence.begin() + to);
                std::copy_n(hit.const_data_ptr<std::uint8_t>() + at, count, scores[k].hit.begin() + to);
                std::copy_n(targets.const_data_ptr<std::int64_t>() + at, count, scores[k].target.begin() + to);
              });
  }
  for (TokenScores& list : scores) {
    add_parts(plan.group, list.nll);
    add_parts(plan.group, list.confidence);
    add_parts(plan.group, list.hit);
    add_parts(plan.group, list.target);
  }
  return scores;
}

bool all_finite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

}  // namespace tenfold

#include "trainer/diagnose_recurrent.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "datasets/file_content.h"
#include "datasets/memory_need.h"
#include "datasets/npy_array.h"
#include "datasets/sequence_values.h"
#include "datasets/zip_archive.h"
#include "experiments/error.h"
#include "trainer/diagnose.h"
#include "trainer/evaluation.h"
#include "ttt/inner_loss.h"

namespace tenfold {
namespace {

// The (T, features) array of an npy file, or of an npz file: its only array, or the one that the configuration names.
at::Tensor read_features(const std::string& path, const std::string& key, std::int64_t most) {
  const MappedFile mapped = map_file(path);
  std::vector<std::byte> member;
  std::span<const std::byte> bytes = mapped.bytes;
  if (mapped.text().starts_with("PK")) {
    const ZipArchive archive(mapped.bytes, path);
    const std::vector<std::string> names = archive.names();
    const std::string wanted = names.size() == 1 ? names.front() : key + ".npy";
    if (!archive.contains(wanted))
      throw Error(ErrorKind::data, path + ": holds " + std::to_string(names.size()) + " arrays, and none is called '" +
                                       key + "' (dataset.samples_key)");
    member = archive.read(wanted);
    bytes = member;
  }
  RawArray array = parse_npy(bytes, path);
  if (array.shape.size() != 2 || array.shape[0] < 1)
    throw Error(ErrorKind::data, path + ": a sequence of time steps is needed, an array (steps, features)");
  if (!array.fortran_order) {
    array.shape[0] = std::min(array.shape[0], most);
    array.data = array.data.first(static_cast<std::size_t>(array.shape[0] * array.shape[1]) * array.item_bytes);
  }
  require_memory(
      static_cast<std::uint64_t>(array.shape[0]) * static_cast<std::uint64_t>(array.shape[1]) * sizeof(float), path);
  const std::vector<float> values = to_floats(array);
  const at::Tensor all = at::tensor(values, at::kFloat).view({array.shape[0], array.shape[1]});
  return all.narrow(0, 0, std::min(array.shape[0], most));
}

// As the training normalised them, (T, features): the columns that the model sees, transformed, by the statistics of
// the fold's training part (of the first group, where they are by group).
at::Tensor normalised_input(const DiagnoseJob& job, const DiagnosedSubject& subject, const at::Device& device) {
  const DatasetSpec& spec = subject.spec.dataset;
  at::Tensor raw = read_features(job.input, spec.samples_key, job.max_positions).contiguous();
  const std::int64_t features = subject.model->data().sample_shape.front();
  std::span<float> values(raw.mutable_data_ptr<float>(), static_cast<std::size_t>(raw.numel()));
  at::Tensor chosen = raw;
  if (!spec.feature_ranges.empty() && raw.size(1) != features) {
    const ColumnSelection columns(spec.feature_ranges, raw.size(1), job.input);
    chosen = at::empty({raw.size(0), columns.count()}, at::kFloat);
    columns.gather(values, {chosen.mutable_data_ptr<float>(), static_cast<std::size_t>(chosen.numel())});
  }
  if (chosen.size(1) != features)
    throw Error(ErrorKind::data, job.input + ": has " + std::to_string(raw.size(1)) +
                                     " features, and the model takes " + std::to_string(features));
  transform_values({chosen.mutable_data_ptr<float>(), static_cast<std::size_t>(chosen.numel())}, spec.transform);
  return (chosen.to(device) - subject.fold->offset[0]) * subject.fold->scale[0];
}

// Of the logits' rows: which class is right (-1: none is told), and the step.
struct Row {
  std::int64_t label = -1, step = 0;
};

struct Logits {
  at::Tensor with, without;  // (rows, classes) float64 on the host
  std::vector<Row> rows;
  std::int64_t longest = 0, streams = 0;
};

Logits run_input(const DiagnoseJob& job, const DiagnosedSubject& subject, const at::Device& device,
                 InnerLossRecorder& recorder, const at::Tensor& input) {
  ModelState state = subject.state;
  const std::int64_t steps = input.size(0);
  const Batch batch{input.unsqueeze(0).unsqueeze(0), at::ones({1, 1, steps}, input.options())};
  ForwardMode mode;
  mode.inner_losses = &recorder;
  Logits logits;
  logits.with = subject.model->forward(state, batch, mode)[0].cpu().to(at::kDouble);
  mode.inner_losses = nullptr;
  mode.base_lr = at::zeros({1}, at::TensorOptions(at::kFloat).device(device));
  logits.without = subject.model->forward(state, batch, mode)[0].cpu().to(at::kDouble);
  logits.rows.resize(static_cast<std::size_t>(logits.with.size(0)));
  logits.longest = std::min(steps, job.max_positions);
  logits.streams = 1;
  return logits;
}

Logits run_fold(const DiagnosedSubject& subject, const at::Device& device, InnerLossRecorder& recorder,
                const std::vector<std::int64_t>& places) {
  const FoldData& fold = *subject.fold;
  const EvaluationPlan plan =
      evaluation_plan(*subject.model, fold.test, fold.dataset->length_bounds, subject.spec.train.batch_size);
  const auto gather = [&](const at::Tensor& indices, const at::Tensor& weight, std::int64_t length) {
    return gather_batch(fold.test, indices, weight, length);
  };
  ModelState state = subject.state;
  const auto classes = static_cast<std::int64_t>(subject.model->data().classes);
  const auto run = [&](const ForwardMode& mode) {
    const std::vector<float> flat = evaluate_logits(*subject.model, state, {places}, gather, plan, mode)[0];
    return at::tensor(flat, at::kFloat).to(at::kDouble).view({-1, classes});
  };
  ForwardMode mode;
  mode.inner_losses = &recorder;
  Logits logits;
  logits.with = run(mode);
  mode.inner_losses = nullptr;
  mode.base_lr = at::zeros({1}, at::TensorOptions(at::kFloat).device(device));
  logits.without = run(mode);
  const bool by_step = subject.model->data().label_kind == LabelKind::step;
  for (const std::int64_t place : places) {
    const std::int64_t steps = fold.test.host_counts[static_cast<std::size_t>(place)];
    const auto labels = fold.labels_at(place);
    for (std::int64_t t = 0; t < (by_step ? steps : 1); ++t)
      logits.rows.push_back({labels[static_cast<std::size_t>(t)], t});
    logits.longest = std::max(logits.longest, steps);
  }
  logits.streams = static_cast<std::int64_t>(places.size());
  return logits;
}

void add_losses(const Logits& logits, bool by_step, std::int64_t max_positions, DiagnosedModel& model) {
  const at::Tensor with = at::log_softmax(logits.with, -1), without = at::log_softmax(logits.without, -1);
  if (with.size(0) > 0) model.kl_without_ttt = (with.exp() * (with - without)).sum(-1).mean().item<double>();
  const auto scores = with.accessor<double, 2>(), others = without.accessor<double, 2>();
  double sum = 0, sum_without = 0;
  std::int64_t count = 0;
  std::vector<double> by_position, weight;
  for (std::size_t i = 0; i < logits.rows.size(); ++i) {
    const Row& row = logits.rows[i];
    if (row.label < 0) continue;
    const auto at = static_cast<std::int64_t>(i);
    sum -= scores[at][row.label];
    sum_without -= others[at][row.label];
    ++count;
    if (!by_step || row.step >= max_positions) continue;
    const auto step = static_cast<std::size_t>(row.step);
    if (by_position.size() <= step) {
      by_position.resize(step + 1);
      weight.resize(step + 1);
    }
    by_position[step] -= scores[at][row.label];
    ++weight[step];
  }
  if (count == 0) return;
  model.nll = sum / static_cast<double>(count);
  model.nll_without_ttt = sum_without / static_cast<double>(count);
  for (std::size_t t = 0; t < by_position.size() && weight[t] > 0; ++t)
    model.position_loss.push_back(by_position[t] / weight[t]);
}

}  // namespace

std::vector<std::int64_t> spread_samples(const std::vector<std::int64_t>& steps) {
  const std::int64_t total = std::accumulate(steps.begin(), steps.end(), std::int64_t{0});
  const auto size = static_cast<std::int64_t>(steps.size());
  const std::int64_t every = std::clamp<std::int64_t>((total + kDiagnosedPositions - 1) / kDiagnosedPositions, 1, size);
  std::vector<std::int64_t> places;
  for (std::int64_t i = 0; i < size; i += every) places.push_back(i);
  return places;
}

DiagnoseResult diagnose_recurrent(const DiagnoseJob& job, const DiagnosedSubject& subject, const at::Device& device) {
  DiagnoseResult result;
  result.layers = layers_of(subject);
  std::int64_t positions = job.max_positions;
  at::Tensor input;
  std::vector<std::int64_t> places;
  if (!job.input.empty()) {
    input = normalised_input(job, subject, device);
    positions = std::min(positions, input.size(0));
  } else {
    places = spread_samples(subject.fold->test.host_counts);
    std::int64_t longest = 1;
    for (const std::int64_t place : places)
      longest = std::max(longest, subject.fold->test.host_counts[static_cast<std::size_t>(place)]);
    positions = std::min(positions, longest);
  }
  InnerLossRecorder recorder(subject.ttt_layers, 1, positions, device);
  const Logits logits = job.input.empty() ? run_fold(subject, device, recorder, places)
                                          : run_input(job, subject, device, recorder, input);
  result.model.stream_length = logits.longest;
  result.model.streams = logits.streams;
  add_losses(logits, subject.model->data().label_kind == LabelKind::step, job.max_positions, result.model);
  const std::vector<InnerLossRecorder::Curves> curves = recorder.curves(0);
  for (std::size_t i = 0; i < result.layers.size(); ++i) {
    result.layers[i].l0 = curves[i].l0;
    result.layers[i].lprev = curves[i].lprev;
    result.layers[i].lafter = curves[i].lafter;
  }
  return result;
}

}  // namespace tenfold

#include "trainer/diagnose_model.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "experiments/error.h"
#include "experiments/experiment.h"
#include "trainer/checkpoint.h"
#include "trainer/inner_losses.h"
#include "trainer/published_checkpoint.h"

namespace tenfold {
namespace {

bool is_language(const std::string& kind) { return kind == "ttt_lm" || kind == "transformer_lm"; }

bool is_of_ttt(const ParameterInfo& parameter) {
  return parameter.group == ParameterGroup::ttt || parameter.group == ParameterGroup::gate;
}

ExperimentSpec read_spec(const std::string& configuration) {
  try {
    return spec_from_json(nlohmann::json::parse(configuration));
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorKind::communication,
                std::string("the configuration of the model is not readable: ") + error.what());
  }
}

void require_inner_loops(const ModelSpec& spec, const ModelLayout& layout) {
  if (!ttt_layers(layout).empty()) return;
  throw Error(ErrorKind::config, "this " + spec.kind + " has no TTT layers, so there is no inner loop to diagnose" +
                                     (spec.kind == "transformer_lm" ? "; model.ttt.layers places some" : ""));
}

// A checkpoint of adaptation holds (member, lane, ...), and one lane unless it adapted batch by batch.
at::Tensor without_lanes(const at::Tensor& found, const at::Tensor& parameter, const std::string& where) {
  if (found.dim() != parameter.dim() + 1) return found;
  if (found.size(1) != 1)
    throw Error(ErrorKind::data,
                where +
                    ": this trial adapts batch by batch, so its checkpoint holds many models; choose a checkpoint "
                    "of its training");
  return found.squeeze(1);
}

// Fills the state from one of our stacked files and returns what of the TTT layers is not there.
std::vector<std::string> restore_what_is_there(const DiagnoseJob& job, const ModelLayout& layout, ModelState& state) {
  if (!std::filesystem::is_regular_file(job.checkpoint))
    throw Error(ErrorKind::data, job.checkpoint + ": there is no such checkpoint");
  CheckpointRef ref;
  ref.path = job.checkpoint;
  ref.sha256 = sha256_file(job.checkpoint).hex();
  ref.array_index = static_cast<std::int32_t>(job.array_index);
  MemberTensors saved = CheckpointReader().read(ref);
  std::vector<std::string> missing, others;
  for (std::size_t i = 0; i < layout.parameters.size(); ++i) {
    const ParameterInfo& parameter = layout.parameters[i];
    const std::string name = "parameter/" + parameter.name;
    const auto found = saved.tensors.find(name);
    if (found == saved.tensors.end()) {
      (is_of_ttt(parameter) ? missing : others).push_back(parameter.name);
      continue;
    }
    found->second = without_lanes(found->second, state.parameters[i], saved.path);
    restore(saved, name, state.parameters[i], 0);
  }
  if (!others.empty())
    throw Error(ErrorKind::data,
                saved.path + ": the checkpoint lacks " + others.front() +
                    (others.size() > 1 ? " and " + std::to_string(others.size() - 1) + " more" : "") +
                    (saved.has("control") ? ": it holds only what adaptation changes; choose one of the training"
                                          : ": it is not of this model"));
  for (std::size_t i = 0; i < layout.buffers.size(); ++i) {
    const std::string name = "buffer/" + layout.buffers[i].name;
    if (const auto found = saved.tensors.find(name); found != saved.tensors.end())
      found->second = without_lanes(found->second, state.buffers[i], saved.path);
    restore(saved, name, state.buffers[i], 0);
  }
  return missing;
}

void to_device(ModelState& state, const at::Device& device) {
  for (auto* tensors : {&state.parameters, &state.buffers})
    for (at::Tensor& tensor : *tensors) tensor = tensor.to(device);
}

DiagnosedSubject load_published(const DiagnoseJob& job) {
  namespace fs = std::filesystem;
  const fs::path path = job.checkpoint;
  std::error_code error;
  const PublishedModel published = read_published_config(fs::is_directory(path, error) ? path : path.parent_path());
  DiagnosedSubject subject;
  subject.published = true;
  subject.spec.model = published.spec;
  const ModelData data{{1}, published.vocabulary, SampleKind::tokens, LabelKind::next_token};
  subject.model = make_model(published.spec, data, false);
  require_inner_loops(published.spec, subject.model->layout());
  subject.state = initial_state(subject.model->layout(), 0, 0, 0);
  subject.missing = load_published_parameters(path, subject.model->layout(), subject.state, true).kept;
  return subject;
}

DiagnosedSubject load_ours(const DiagnoseJob& job, const at::Device& device) {
  DiagnosedSubject subject;
  subject.spec = read_spec(job.configuration);
  const ModelSpec& spec = subject.spec.model;
  const bool language = is_language(spec.kind);
  if (!language || job.input.empty())
    subject.fold = FoldStore(device).fold(subject.spec, job.repeat, job.fold, job.fingerprint, job.cache_folder);
  ModelData data{job.sample_shape, static_cast<int>(job.classes), SampleKind::tokens, LabelKind::next_token};
  if (subject.fold) data = model_data(*subject.fold->dataset->host);
  subject.model = make_model(spec, data, subject.spec.deterministic);
  require_inner_loops(spec, subject.model->layout());
  subject.state = initial_state(subject.model->layout(), subject.spec.seed, job.repeat, job.fold);
  subject.missing = restore_what_is_there(job, subject.model->layout(), subject.state);
  return subject;
}

}  // namespace

DiagnosedSubject load_subject(const DiagnoseJob& job, const at::Device& device) {
  at::NoGradGuard no_grad;
  DiagnosedSubject subject = job.configuration.empty() ? load_published(job) : load_ours(job, device);
  subject.ttt_layers = ttt_layers(subject.model->layout());
  to_device(subject.state, device);
  return subject;
}

std::vector<DiagnosedLayer> layers_of(const DiagnosedSubject& subject) {
  const ModelSpec& spec = subject.spec.model;
  const ModelLayout& layout = subject.model->layout();
  const bool rnn = spec.kind == "ttt_rnn";
  std::vector<DiagnosedLayer> layers;
  for (const int index : subject.ttt_layers) {
    DiagnosedLayer layer;
    layer.layer = index;
    layer.kind = rnn ? "ttt_rnn" : spec.ttt.kind;
    layer.reset_each_step = rnn && !spec.ttt.persistent;
    // What is published says nothing of it: whoever streams it carries the state.
    layer.carried = subject.published || spec.ttt.persistent;
    layer.mini_batch_size = !rnn                                ? spec.ttt.mini_batch_size
                            : spec.ttt.inner_window == "window" ? spec.ttt.sequence_length
                                                                : 1;
    for (std::size_t i = 0; i < layout.parameters.size(); ++i) {
      const ParameterInfo& parameter = layout.parameters[i];
      if (parameter.layer != index) continue;
      if (parameter.group == ParameterGroup::gate) {
        const at::Tensor gate = at::tanh(subject.state.parameters[i].to(at::kDouble)).cpu();
        layer.gate_mean_abs = gate.abs().mean().item<double>();
        layer.gate_min = gate.min().item<double>();
        layer.gate_max = gate.max().item<double>();
      }
      const bool is_missing =
          std::find(subject.missing.begin(), subject.missing.end(), parameter.name) != subject.missing.end();
      if (is_missing && parameter.group == ParameterGroup::ttt) layer.weights_found = false;
    }
    layers.push_back(std::move(layer));
  }
  return layers;
}

}  // namespace tenfold

#include "runner/commands/plan_describe.h"

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <utility>

namespace tenfold {
namespace {

// "layers.0.norm.weight" -> "layers.*.norm.weight"
std::string without_numbers(const std::string& name) {
  std::string pattern;
  for (const char c : name) {
    if (std::isdigit(static_cast<unsigned char>(c)) == 0) {
      pattern += c;
    } else if (pattern.empty() || pattern.back() != '*') {
      pattern += '*';
    }
  }
  return pattern;
}

std::string joined(const std::vector<int>& values, const char* separator) {
  std::string text;
  for (const int value : values) {
    if (!text.empty()) text += separator;
    text += std::to_string(value);
  }
  return text;
}

}  // namespace

std::vector<std::string> names_by_pattern(const ModelLayout& layout, const std::vector<bool>& selected) {
  std::vector<std::pair<std::string, int>> counts;
  for (std::size_t i = 0; i < layout.parameters.size(); ++i) {
    if (!selected[i]) continue;
    const std::string pattern = without_numbers(layout.parameters[i].name);
    const auto found = std::find_if(counts.begin(), counts.end(), [&](const auto& c) { return c.first == pattern; });
    if (found == counts.end()) {
      counts.emplace_back(pattern, 1);
    } else {
      ++found->second;
    }
  }
  std::vector<std::string> names;
  for (const auto& [pattern, count] : counts) {
    names.push_back(pattern + (count > 1 ? " (" + std::to_string(count) + ")" : ""));
  }
  return names;
}

// The inner loop of a model, as far as it is not a default that nobody asks about.
std::string describe_inner_loop(const ModelSpec& model) {
  const TttLayerSpec& ttt = model.ttt;
  std::string text = ", inner rate " + nlohmann::json(ttt.base_lr.value_or(0)).dump();
  if (model.kind == "ttt_rnn")
    return ", " + ttt.encoder + text + ", " + std::to_string(ttt.inner_iterations) +
           (ttt.inner_iterations == 1 ? " inner iteration " : " inner iterations ") + ttt.inner +
           (ttt.persistent ? ", persistent" : "");
  return ", inner " + ttt.kind + text + ", mini-batch " + std::to_string(ttt.mini_batch_size);
}

std::string describe_sequence_model(const ModelSpec& model, const DatasetSummary& data) {
  const bool recurrent = model.kind == "ttt_rnn" || model.kind == "gru" || model.kind == "lstm";
  const bool places = model.kind == "transformer_lm";
  const bool has_ttt = model.kind == "ttt_rnn" || model.kind == "ttt_lm" ||
                       (places && model.ttt.layers != std::vector<std::string>{"none"});
  std::string text = model.kind + " ";
  if (recurrent)
    text += (data.sample_shape.empty() ? "" : std::to_string(data.sample_shape.front()) + " -> ") +
            std::to_string(model.units) + " x " + std::to_string(model.layers) + " -> " + std::to_string(data.classes) +
            (model.bidirectional ? ", bidirectional" : "");
  else
    text += std::to_string(model.layers) + " layers of " + std::to_string(model.width) + ", " +
            std::to_string(model.heads) + " heads, vocabulary " + std::to_string(data.classes);
  if (places) {
    text += ", TTT at";
    for (const std::string& layer : model.ttt.layers) text += " " + layer;
  }
  if (has_ttt) text += describe_inner_loop(model);
  if (model.lora.rank > 0) text += ", LoRA " + std::to_string(model.lora.rank);
  if (model.dropout > 0) text += ", dropout " + nlohmann::json(model.dropout).dump();
  return text;
}

std::string describe_model(const ModelSpec& model, const DatasetSummary& data) {
  if (data.kind != SampleKind::fixed) return describe_sequence_model(model, data);
  std::int64_t features = 1;
  for (const std::int64_t extent : data.sample_shape) features *= extent;
  std::string text = model.kind + " ";
  if (model.kind == "cnn") text += "channels " + joined(model.channels, "-") + ", hidden ";
  if (model.kind != "cnn") text += std::to_string(features) + "-";
  if (!model.hidden.empty()) text += joined(model.hidden, "-") + "-";
  text += std::to_string(data.classes) + ", norm " + model.norm + ", " + model.activation;
  if (model.dropout > 0) text += ", dropout " + nlohmann::json(model.dropout).dump();
  return text;
}

std::string describe_data(const DatasetSpec& spec) {
  std::string text = spec.kind;
  if (!spec.path.empty()) text += " " + spec.path;
  if (spec.shift.kind != "none") {
    text += ", held-out fold under " + spec.shift.kind + " of severity " + std::to_string(spec.shift.severity);
  }
  return text;
}

std::string describe_folds(const FoldSpec& folds, const DatasetSummary& data) {
  // Not folds.k: some kinds have one fold per class, group or number of a column.
  const std::size_t count = data.splits.size() / static_cast<std::size_t>(std::max(folds.repeats, 1));
  std::string text = folds.kind + ", " + std::to_string(count) + " folds";
  if (folds.repeats > 1) text += " x " + std::to_string(folds.repeats) + " repeats";
  return text;
}

std::string describe_patterns(const TttSpec& ttt) {
  if (ttt.method == "source") return "nothing (source)";
  std::string text;
  for (const std::string& pattern : ttt.parameters.value_or(std::vector<std::string>{})) {
    text += (text.empty() ? "" : " ") + pattern;
  }
  return text.empty() ? ttt.method : text;
}

}  // namespace tenfold

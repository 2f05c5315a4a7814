#include "trainer/model_layout.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>

#include "experiments/error.h"
#include "trainer/language_layout.h"
#include "trainer/recurrent_layout.h"

namespace tenfold {
namespace {

// Far above what fits any machine; keeps products of widths inside int64.
constexpr std::int64_t kMaxParameters = std::int64_t{1} << 40;

[[noreturn]] void fail(const std::string& what) { throw Error(ErrorKind::config, what); }

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

std::int64_t product(const std::vector<std::int64_t>& shape, const char* what) {
  std::int64_t values = 1;
  for (const std::int64_t extent : shape) {
    if (extent < 1) fail(std::string(what) + " have the shape " + shape_text(shape) + ", which holds nothing");
    if (__builtin_mul_overflow(values, extent, &values) || values > kMaxParameters)
      fail(std::string(what) + " of shape " + shape_text(shape) + " are too large");
  }
  return values;
}

void check_norm(const ModelSpec& spec) {
  if (spec.norm != "layer" && spec.norm != "batch" && spec.norm != "none")
    fail("model.norm: '" + spec.norm + "' is unknown; allowed are layer, batch, none");
}

class LayoutBuilder {
 public:
  explicit LayoutBuilder(const ModelSpec& spec) : norm_(spec.norm) {}

  void add_layer(const std::string& kind, std::vector<std::int64_t> weight_shape, std::int64_t units,
                 std::int64_t fan_in) {
    const std::string name = "layers." + std::to_string(layout_.layers);
    add(name + "." + kind + ".weight", std::move(weight_shape), ParameterRole::weight, fan_in);
    add(name + "." + kind + ".bias", {units}, ParameterRole::bias, fan_in);
    if (norm_ != "none") {
      add(name + ".norm.weight", {units}, ParameterRole::norm_weight, 0);
      add(name + ".norm.bias", {units}, ParameterRole::norm_bias, 0);
    }
    if (norm_ == "batch") {
      layout_.buffers.push_back({name + ".norm.running_mean", {units}, 0.0f});
      layout_.buffers.push_back({name + ".norm.running_var", {units}, 1.0f});
    }
    ++layout_.layers;
  }

  void add_head(std::int64_t in, std::int64_t classes) {
    add("head.weight", {in, classes}, ParameterRole::weight, in);
    add("head.bias", {classes}, ParameterRole::bias, in);
    ++layout_.layers;
  }

  ModelLayout take() { return std::move(layout_); }

 private:
  void add(std::string name, std::vector<std::int64_t> shape, ParameterRole role, std::int64_t fan_in) {
    values_ += product(shape, "model: weights");
    if (values_ > kMaxParameters) fail("model: it would have more than 2^40 parameters; make its layers narrower");
    InitialValue initial;
    if (role == ParameterRole::norm_weight) initial = {InitialValue::Kind::constant, 1};
    if (role == ParameterRole::norm_bias) initial = {InitialValue::Kind::constant, 0};
    layout_.parameters.push_back({std::move(name), std::move(shape), layout_.layers, role, fan_in, initial});
  }

  std::string norm_;
  ModelLayout layout_;
  std::int64_t values_ = 0;
};

// * stands for any text, ? for one character. Linear in text and pattern but for the retries of one star.
bool matches(std::string_view text, std::string_view pattern) {
  std::size_t t = 0, p = 0, star = std::string_view::npos, star_text = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_text = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++star_text;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t above = row[j + 1];
      row[j + 1] = std::min({above + 1, row[j] + 1, diagonal + (a[i] == b[j] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row.back();
}

std::string suggestion(const ModelLayout& layout, const std::string& pattern) {
  std::vector<std::string> known = {"all", "norm", "body", "last:1", "first:1"};
  for (const ParameterInfo& parameter : layout.parameters) known.push_back(parameter.name);
  const std::string* nearest = nullptr;
  std::size_t best = std::max<std::size_t>(2, pattern.size() / 3) + 1;
  if (pattern.size() < 256)
    for (const std::string& name : known)
      if (const std::size_t distance = edit_distance(pattern, name); distance < best) {
        best = distance;
        nearest = &name;
      }
  std::string text = nearest ? "; did you mean '" + *nearest + "'?" : ";";
  text +=
      " Allowed are all, norm, body, ttt, gate, lora, base, last:N, first:N, layers:[i, j] and name patterns; this "
      "model's parameters are";
  constexpr std::size_t kShown = 12;
  for (std::size_t i = 0; i < std::min(kShown, layout.parameters.size()); ++i)
    text += (i ? ", " : " ") + layout.parameters[i].name;
  if (layout.parameters.size() > kShown) text += ", ... (" + std::to_string(layout.parameters.size()) + " in all)";
  return text;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::int64_t parse_integer(std::string_view text, const std::string& pattern, const std::string& key) {
  std::int64_t value = 0;
  const std::string_view digits = trimmed(text);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size())
    fail(key + ": '" + pattern + "': '" + std::string(digits) +
         "' is not an integer; examples: last:1, first:2, layers:[0, -1]");
  return value;
}

std::string layers_text(const ModelLayout& layout) {
  return "the model has " + std::to_string(layout.layers) + (layout.layers == 1 ? " layer" : " layers") +
         " (the head is the last)";
}

// Which layers a pattern of layers means; nothing for a pattern of another kind.
std::optional<std::vector<bool>> selected_layers(const ModelLayout& layout, const std::string& pattern,
                                                 const std::string& key) {
  std::vector<bool> layers(layout.layers, false);
  const bool last = pattern.starts_with("last:");
  if (last || pattern.starts_with("first:")) {
    const std::int64_t count = parse_integer(std::string_view(pattern).substr(last ? 5 : 6), pattern, key);
    if (count < 1 || count > layout.layers)
      fail(key + ": '" + pattern + "': " + layers_text(layout) + ", so N is 1 to " + std::to_string(layout.layers));
    for (std::int64_t i = 0; i < count; ++i) layers[last ? layout.layers - 1 - i : i] = true;
    return layers;
  }
  if (!pattern.starts_with("layers:")) return std::nullopt;
  std::string_view items = trimmed(std::string_view(pattern).substr(7));
  if (items.size() < 2 || items.front() != '[' || items.back() != ']')
    fail(key + ": '" + pattern + "' needs its layers in brackets, as in \"layers:[0, -1]\"");
  items = items.substr(1, items.size() - 2);
  while (true) {
    const std::size_t comma = items.find(',');
    const std::int64_t index = parse_integer(items.substr(0, comma), pattern, key);
    const std::int64_t layer = index < 0 ? index + layout.layers : index;
    if (layer < 0 || layer >= layout.layers)
      fail(key + ": '" + pattern + "' names layer " + std::to_string(index) + ", but " + layers_text(layout) +
           ": 0 to " + std::to_string(layout.layers - 1) + ", or -1 from the end");
    layers[layer] = true;
    if (comma == std::string_view::npos) return layers;
    items.remove_prefix(comma + 1);
  }
}

bool is_norm(ParameterRole role) { return role == ParameterRole::norm_weight || role == ParameterRole::norm_bias; }

std::optional<ParameterGroup> group_called(std::string_view pattern) {
  for (const ParameterGroup group :
       {ParameterGroup::base, ParameterGroup::ttt, ParameterGroup::gate, ParameterGroup::lora})
    if (pattern == to_string(group)) return group;
  return std::nullopt;
}

bool selects(const std::string& pattern, const std::optional<std::vector<bool>>& layers, const ModelLayout& layout,
             const ParameterInfo& parameter) {
  if (layers) return (*layers)[parameter.layer];
  if (pattern == "all") return true;
  if (pattern == "norm") return is_norm(parameter.role);
  if (pattern == "body") return parameter.layer < layout.layers - 1;
  if (const auto group = group_called(pattern)) return parameter.group == *group;
  return matches(parameter.name, pattern);
}

}  // namespace

std::int64_t ParameterInfo::size() const {
  std::int64_t values = 1;
  for (const std::int64_t extent : shape) values *= extent;
  return values;
}

std::int64_t ModelLayout::parameter_count() const {
  std::int64_t values = 0;
  for (const ParameterInfo& parameter : parameters) values += parameter.size();
  return values;
}

std::vector<ConvolutionInfo> convolutions(const ModelSpec& spec, const std::vector<std::int64_t>& sample_shape) {
  if (spec.kind != "cnn") return {};
  if (sample_shape.size() != 3)
    fail("model.kind: a cnn needs images (channels, height, width), but the samples have the shape " +
         shape_text(sample_shape) + "; use kind: mlp, or a dataset of images");
  product(sample_shape, "the samples");
  if (sample_shape[0] > (1 << 20)) fail("model.kind: a cnn cannot take " + shape_text(sample_shape) + " samples");
  if (spec.channels.empty()) fail("model.channels: a cnn needs at least one convolution, e.g. [16, 32]");
  if (spec.kernel_size < 1 || spec.kernel_size % 2 == 0)
    fail("model.kernel_size: " + std::to_string(spec.kernel_size) + " is not an odd number of at least 1");
  std::vector<ConvolutionInfo> stages;
  int in = static_cast<int>(sample_shape[0]);
  std::int64_t height = sample_shape[1], width = sample_shape[2];
  for (const int out : spec.channels) {
    if (out < 1) fail("model.channels: " + std::to_string(out) + " is not at least 1");
    const bool pooled = height >= 2 && width >= 2;
    stages.push_back(
        {in, out, spec.kernel_size, height, width, pooled, pooled ? height / 2 : height, pooled ? width / 2 : width});
    in = out;
    height = stages.back().out_height;
    width = stages.back().out_width;
  }
  return stages;
}

std::vector<std::int64_t> linear_widths(const ModelSpec& spec, const std::vector<std::int64_t>& sample_shape,
                                        int classes) {
  if (spec.kind != "mlp" && spec.kind != "cnn")
    fail("model.kind: '" + spec.kind + "' is unknown; allowed are mlp, cnn");
  if (classes < 2) fail("model: a classifier needs at least 2 classes, the dataset has " + std::to_string(classes));
  if (sample_shape.empty()) fail("model: the samples have no features");
  std::vector<std::int64_t> widths;
  if (spec.kind == "cnn") {
    const ConvolutionInfo last = convolutions(spec, sample_shape).back();
    widths.push_back(product({last.out_channels, last.out_height, last.out_width}, "model: flattened images"));
  } else {
    widths.push_back(product(sample_shape, "the samples"));
  }
  for (const int hidden : spec.hidden) {
    if (hidden < 1) fail("model.hidden: " + std::to_string(hidden) + " is not at least 1");
    widths.push_back(hidden);
  }
  widths.push_back(classes);
  return widths;
}

ModelLayout model_layout(const ModelSpec& spec, const std::vector<std::int64_t>& sample_shape, int classes) {
  if (spec.kind == "ttt_rnn" || spec.kind == "gru" || spec.kind == "lstm")
    return recurrent_layout(spec, product(sample_shape, "the samples"), classes);
  if (spec.kind == "ttt_lm" || spec.kind == "transformer_lm") return language_layout(spec, classes);
  check_norm(spec);
  const std::vector<std::int64_t> widths = linear_widths(spec, sample_shape, classes);
  LayoutBuilder builder(spec);
  for (const ConvolutionInfo& stage : convolutions(spec, sample_shape)) {
    const std::int64_t k = stage.kernel_size;
    const std::vector<std::int64_t> weight = {stage.out_channels, stage.in_channels, k, k};
    product(weight, "model: weights");  // before fan_in, which could overflow
    builder.add_layer("conv", weight, stage.out_channels, stage.in_channels * k * k);
  }
  for (std::size_t i = 0; i + 2 < widths.size(); ++i)
    builder.add_layer("linear", {widths[i], widths[i + 1]}, widths[i + 1], widths[i]);
  builder.add_head(widths[widths.size() - 2], widths.back());
  return builder.take();
}

std::vector<bool> select_parameters(const ModelLayout& layout, const std::vector<std::string>& patterns,
                                    const std::string& key) {
  std::vector<bool> selected(layout.parameters.size(), false);
  for (const std::string& pattern : patterns) {
    const auto layers = selected_layers(layout, pattern, key);
    bool any = false;
    for (std::size_t i = 0; i < selected.size(); ++i)
      if (selects(pattern, layers, layout, layout.parameters[i])) selected[i] = any = true;
    if (any) continue;
    if (pattern == "norm") fail(key + ": 'norm' selects nothing: the model has no norm layers (model.norm)");
    if (pattern == "body") fail(key + ": 'body' selects nothing: the model is its head alone (model.hidden)");
    fail(key + ": '" + pattern + "' selects no parameter" + suggestion(layout, pattern));
  }
  return selected;
}

std::int64_t selected_count(const ModelLayout& layout, const std::vector<bool>& selected) {
  if (selected.size() != layout.parameters.size())
    throw Error(ErrorKind::internal, "a selection of " + std::to_string(selected.size()) +
                                         " parameters for a model of " + std::to_string(layout.parameters.size()));
  std::int64_t values = 0;
  for (std::size_t i = 0; i < selected.size(); ++i)
    if (selected[i]) values += layout.parameters[i].size();
  return values;
}

}  // namespace tenfold

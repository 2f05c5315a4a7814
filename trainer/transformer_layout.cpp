#include "trainer/transformer_layout.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "experiments/error.h"
#include "trainer/language_layout.h"

namespace tenfold {
namespace {

// Far above what fits any machine; keeps products of widths inside int64.
constexpr std::int64_t kMaxParameters = std::int64_t{1} << 40;
constexpr double kInitialDeviation = 0.02;
constexpr std::array<const char*, 7> kProjections = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                     "gate_proj", "up_proj", "down_proj"};

[[noreturn]] void fail(const std::string& what) { throw Error(ErrorKind::config, what); }

constexpr InitialValue constant(double value) { return {InitialValue::Kind::constant, value}; }
constexpr InitialValue normal(double deviation) { return {InitialValue::Kind::normal, deviation}; }

class LayoutBuilder {
 public:
  explicit LayoutBuilder(const ModelSpec& spec)
      : spec_(spec), lora_(spec.lora.projections.begin(), spec.lora.projections.end()) {}

  void set_layer(int layer) { layer_ = layer; }

  void add(const std::string& name, std::vector<std::int64_t> shape, ParameterRole role, std::int64_t fan_in,
           InitialValue initial, ParameterGroup group = ParameterGroup::base) {
    std::int64_t values = 1;
    for (const std::int64_t extent : shape)
      if (__builtin_mul_overflow(values, extent, &values) || values > kMaxParameters) values = kMaxParameters + 1;
    values_ += values;
    if (values_ > kMaxParameters)
      fail("model: it would have more than 2^40 parameters; make model.width or model.feed_forward smaller");
    layout_.parameters.push_back({name, std::move(shape), layer_, role, fan_in, initial, group});
  }

  void add_norm(const std::string& name, std::int64_t width, ParameterGroup group = ParameterGroup::base) {
    add(name + ".weight", {width}, ParameterRole::norm_weight, 0, constant(1), group);
  }

  // ends_branch: its output is added to the residual stream.
  void add_projection(const std::string& place, const char* projection, std::int64_t in, std::int64_t out,
                      bool ends_branch) {
    const std::string name = place + projection;
    add(name + ".weight", {out, in}, ParameterRole::weight, in,
        normal(kInitialDeviation / (ends_branch ? std::sqrt(2.0 * spec_.layers) : 1.0)));
    const std::int64_t rank = spec_.lora.rank;
    if (rank == 0 || !lora_.contains(projection)) return;
    if (rank > std::min(in, out))
      fail("model.lora.rank is " + std::to_string(rank) + ", and " + name + " is " + std::to_string(out) + " x " +
           std::to_string(in) + ": its rank is at most " + std::to_string(std::min(in, out)));
    add(name + ".lora_A.weight", {rank, in}, ParameterRole::weight, in, {}, ParameterGroup::lora);
    add(name + ".lora_B.weight", {out, rank}, ParameterRole::weight, rank, constant(0), ParameterGroup::lora);
  }

  void add_ttt(const std::string& place) {
    const std::int64_t width = spec_.width, heads = spec_.heads, f = width / heads;
    const auto group = ParameterGroup::ttt;
    for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"})
      add(place + name + ".weight", {width, width}, ParameterRole::weight, width, normal(kInitialDeviation), group);
    const int depth = inner_depth(spec_.ttt);
    for (int n = 1; n <= depth; ++n) {
      const std::int64_t in = n == 1 ? f : 4 * f, out = n == depth ? f : 4 * f;
      add(place + "W" + std::to_string(n), {heads, in, out}, ParameterRole::weight, in, normal(kInitialDeviation),
          group);
      add(place + "b" + std::to_string(n), {heads, 1, out}, ParameterRole::bias, in, constant(0), group);
    }
    add(place + "learnable_ttt_lr_weight", {heads, 1, width}, ParameterRole::weight, width, normal(kInitialDeviation),
        group);
    add(place + "learnable_ttt_lr_bias", {heads, 1}, ParameterRole::bias, width, constant(0), group);
    add(place + "ttt_norm_weight", {heads, f}, ParameterRole::norm_weight, 0, constant(1), group);
    add(place + "ttt_norm_bias", {heads, f}, ParameterRole::norm_bias, 0, constant(0), group);
    add(place + "post_norm.weight", {width}, ParameterRole::norm_weight, 0, constant(1), group);
    add(place + "post_norm.bias", {width}, ParameterRole::norm_bias, 0, constant(0), group);
    add(place + "gate_alpha", {width}, ParameterRole::weight, 0, constant(spec_.ttt.gate_init), ParameterGroup::gate);
  }

  ModelLayout take(int layers) {
    layout_.layers = layers;
    return std::move(layout_);
  }

 private:
  const ModelSpec& spec_;
  std::set<std::string> lora_;
  ModelLayout layout_;
  int layer_ = 0;
  std::int64_t values_ = 0;
};

void check(const ModelSpec& spec) {
  if (spec.layers < 1) fail("model.layers: " + std::to_string(spec.layers) + " is not at least 1");
  if (spec.width < 1 || spec.heads < 1 || spec.width % spec.heads != 0)
    fail("model.width: " + std::to_string(spec.width) + " is not a multiple of model.heads (" +
         std::to_string(spec.heads) + ")");
  if (spec.width / spec.heads % 2 != 0)
    fail("model.heads: a head of " + std::to_string(spec.width / spec.heads) +
         " (width / heads) is odd, and rotary positions turn pairs; change model.width or model.heads");
  if (spec.feed_forward < 0) fail("model.feed_forward: " + std::to_string(spec.feed_forward) + " is below 0");
  if (spec.lora.rank < 0) fail("model.lora.rank: " + std::to_string(spec.lora.rank) + " is below 0");
  for (const std::string& name : spec.lora.projections)
    if (spec.lora.rank > 0 && std::find(kProjections.begin(), kProjections.end(), name) == kProjections.end())
      fail("model.lora.projections: '" + name +
           "' is unknown; allowed are q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj");
  if (spec.ttt.kind != "linear" && spec.ttt.kind != "mlp")
    fail("model.ttt.kind: '" + spec.ttt.kind + "' is unknown; allowed are linear, mlp");
}

}  // namespace

std::int64_t feed_forward_width(const ModelSpec& spec) {
  if (spec.feed_forward > 0) return spec.feed_forward;
  const std::int64_t width = (std::int64_t{8} * spec.width + 2) / 3;
  return (width + 15) / 16 * 16;
}

int inner_depth(const TttLayerSpec& spec) { return spec.kind == "linear" ? 1 : spec.inner_layers; }

ModelLayout transformer_lm_layout(const ModelSpec& spec, int vocabulary) {
  check(spec);
  const std::vector<int> placed = placed_layers(spec.ttt.layers, spec.layers, "model.ttt.layers");
  const std::int64_t width = spec.width, inner = feed_forward_width(spec);
  LayoutBuilder builder(spec);
  builder.add("model.embed_tokens.weight", {vocabulary, width}, ParameterRole::weight, 1, normal(kInitialDeviation));
  for (int i = 0; i < spec.layers; ++i) {
    builder.set_layer(i);
    const std::string block = "model.layers." + std::to_string(i) + ".";
    builder.add_norm(block + "input_layernorm", width);
    for (const char* name : {"q_proj", "k_proj", "v_proj"})
      builder.add_projection(block + "self_attn.", name, width, width, false);
    builder.add_projection(block + "self_attn.", "o_proj", width, width, true);
    if (std::binary_search(placed.begin(), placed.end(), i)) builder.add_ttt(block + "ttt.");
    builder.add_norm(block + "post_attention_layernorm", width);
    builder.add_projection(block + "mlp.", "gate_proj", width, inner, false);
    builder.add_projection(block + "mlp.", "up_proj", width, inner, false);
    builder.add_projection(block + "mlp.", "down_proj", inner, width, true);
  }
  builder.set_layer(spec.layers);
  builder.add_norm("model.norm", width);
  if (!spec.tie_embeddings)
    builder.add("lm_head.weight", {vocabulary, width}, ParameterRole::weight, width, normal(kInitialDeviation));
  return builder.take(spec.layers + 1);
}

}  // namespace tenfold

#include "trainer/ttt_lm_layout.h"

#include "experiments/error.h"
#include "trainer/transformer_layout.h"

namespace tenfold {
namespace {

// Far above what fits any machine; keeps products of widths inside int64.
constexpr std::int64_t kMaxParameters = std::int64_t{1} << 40;
constexpr std::int64_t kKernel = 4;  // of the causal convolutions
constexpr InitialValue kNormal = {InitialValue::Kind::normal, 0.02};
constexpr InitialValue kZero = {InitialValue::Kind::constant, 0};
constexpr InitialValue kOne = {InitialValue::Kind::constant, 1};

[[noreturn]] void fail(const std::string& what) { throw Error(ErrorKind::config, what); }

class Builder {
 public:
  void begin_layer(int layer) { layer_ = layer; }
  void of_group(ParameterGroup group) { group_ = group; }

  void add(const std::string& name, std::vector<std::int64_t> shape, ParameterRole role, std::int64_t fan_in,
           InitialValue initial) {
    std::int64_t values = 1;
    for (const std::int64_t extent : shape)
      if (__builtin_mul_overflow(values, extent, &values) || values > kMaxParameters) values = kMaxParameters + 1;
    values_ += values;
    if (values_ > kMaxParameters)
      fail("model: it would have more than 2^40 parameters; make model.width or model.feed_forward smaller");
    layout_.parameters.push_back({name, std::move(shape), layer_, role, fan_in, initial, group_});
  }
  void add_linear(const std::string& name, std::int64_t out, std::int64_t in) {
    add(name + ".weight", {out, in}, ParameterRole::weight, in, kNormal);
  }
  void add_norm(const std::string& name, std::int64_t width) {
    add(name + ".weight", {width}, ParameterRole::norm_weight, 0, kOne);
  }
  void add_convolution(const std::string& name, std::int64_t width) {
    add(name + ".weight", {width, 1, kKernel}, ParameterRole::weight, kKernel, {});
    add(name + ".bias", {width}, ParameterRole::bias, kKernel, {});
  }
  ModelLayout take(int layers) {
    layout_.layers = layers;
    return std::move(layout_);
  }

 private:
  ModelLayout layout_;
  ParameterGroup group_ = ParameterGroup::base;
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
  const TttLayerSpec& ttt = spec.ttt;
  if (ttt.kind != "linear" && ttt.kind != "mlp")
    fail("model.ttt.kind: '" + ttt.kind + "' is unknown; allowed are linear, mlp");
  if (ttt.kind == "mlp" && (ttt.inner_layers < 2 || ttt.inner_layers > 5))
    fail("model.ttt.inner_layers: " + std::to_string(ttt.inner_layers) + " is not from 2 to 5");
  if (ttt.mini_batch_size < 1)
    fail("model.ttt.mini_batch_size: " + std::to_string(ttt.mini_batch_size) + " is not at least 1");
}

void add_ttt(Builder& builder, const ModelSpec& spec, const std::string& block) {
  const std::int64_t width = spec.width, heads = spec.heads, f = width / heads;
  builder.add_linear(block + "q_proj", width, width);
  if (!spec.ttt.share_qk) builder.add_linear(block + "k_proj", width, width);
  builder.add_linear(block + "v_proj", width, width);
  builder.add_linear(block + "o_proj", width, width);
  if (spec.ttt.share_qk) {
    builder.add_convolution(block + "conv_q", width);
    builder.add_convolution(block + "conv_k", width);
  }
  if (spec.ttt.use_gate) builder.add_linear(block + "g_proj", width, width);
  builder.add(block + "learnable_ttt_lr_weight", {heads, 1, width}, ParameterRole::weight, width, kNormal);
  builder.add(block + "learnable_ttt_lr_bias", {heads, 1}, ParameterRole::bias, width, kZero);
  builder.add(block + "learnable_token_idx", {spec.ttt.mini_batch_size}, ParameterRole::bias, 0, kZero);
  builder.add(block + "ttt_norm_weight", {heads, f}, ParameterRole::norm_weight, 0, kOne);
  builder.add(block + "ttt_norm_bias", {heads, f}, ParameterRole::norm_bias, 0, kZero);
  const int depth = inner_depth(spec.ttt);
  for (int n = 1; n <= depth; ++n) {
    const std::int64_t in = n == 1 ? f : 4 * f, out = n == depth ? f : 4 * f;
    builder.add(block + "W" + std::to_string(n), {heads, in, out}, ParameterRole::weight, in, kNormal);
    builder.add(block + "b" + std::to_string(n), {heads, 1, out}, ParameterRole::bias, in, kZero);
  }
  builder.add_norm(block + "post_norm", width);
  builder.add(block + "post_norm.bias", {width}, ParameterRole::norm_bias, 0, kZero);
}

}  // namespace

ModelLayout ttt_lm_layout(const ModelSpec& spec, int vocabulary) {
  check(spec);
  const std::int64_t width = spec.width, inner = feed_forward_width(spec);
  Builder builder;
  builder.add("model.embed_tokens.weight", {vocabulary, width}, ParameterRole::weight, 1, kNormal);
  for (int i = 0; i < spec.layers; ++i) {
    builder.begin_layer(i);
    const std::string block = "model.layers." + std::to_string(i) + ".";
    if (spec.ttt.pre_conv) {
      builder.add_norm(block + "conv.norm", width);
      builder.add_convolution(block + "conv.conv", width);
    }
    builder.add_norm(block + "seq_norm", width);
    builder.of_group(ParameterGroup::ttt);
    add_ttt(builder, spec, block + "seq_modeling_block.");
    builder.of_group(ParameterGroup::base);
    builder.add_norm(block + "ffn_norm", width);
    builder.add_linear(block + "mlp.gate_proj", inner, width);
    builder.add_linear(block + "mlp.up_proj", inner, width);
    builder.add_linear(block + "mlp.down_proj", width, inner);
  }
  builder.begin_layer(spec.layers);
  builder.add_norm("model.norm", width);
  if (!spec.tie_embeddings) builder.add_linear("lm_head", vocabulary, width);
  return builder.take(spec.layers + 1);
}

}  // namespace tenfold

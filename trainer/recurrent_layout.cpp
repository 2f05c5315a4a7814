#include "trainer/recurrent_layout.h"

#include <utility>

#include "experiments/error.h"

namespace tenfold {
namespace {

constexpr std::int64_t kMaxWidth = std::int64_t{1} << 20;  // keeps products of widths inside int64
constexpr std::int64_t kMaxParameters = std::int64_t{1} << 40;

[[noreturn]] void fail(const std::string& what) { throw Error(ErrorKind::config, what); }

class Builder {
 public:
  explicit Builder(const ModelSpec& spec)
      : spec_(spec), group_(spec.kind == "ttt_rnn" ? ParameterGroup::ttt : ParameterGroup::base) {}

  void linear(const std::string& name, std::int64_t in, std::int64_t out) {
    add(name + ".weight", {in, out}, ParameterRole::weight, in, {});
    add(name + ".bias", {out}, ParameterRole::bias, in, {});
  }

  // One direction of layer `layer`.
  void cell(const std::string& name, std::int64_t in) {
    const std::int64_t units = spec_.units;
    if (spec_.kind != "ttt_rnn") {
      const std::int64_t gates = spec_.kind == "gru" ? 3 : 4;
      // As torch.nn draws them: all uniform in +-1/sqrt(units).
      add(name + ".input.weight", {in, gates * units}, ParameterRole::weight, units, {});
      add(name + ".input.bias", {gates * units}, ParameterRole::bias, units, {});
      linear(name + ".hidden", units, gates * units);
      return;
    }
    linear(name + ".phi", in + units, units);
    linear(name + ".psi", in + units, units);
    if (spec_.ttt.encoder == "mlp_2") {
      linear(name + ".encoder.0", units, 4 * units);
      linear(name + ".encoder.1", 4 * units, units);
    } else {
      linear(name + ".encoder.0", units, units);
    }
    linear(name + ".g", units, units);
    linear(name + ".h", units, units);
    if (spec_.ttt.decoder_ln) {
      add(name + ".ln.weight", {units}, ParameterRole::norm_weight, 0, {InitialValue::Kind::constant, 1});
      add(name + ".ln.bias", {units}, ParameterRole::norm_bias, 0, {InitialValue::Kind::constant, 0});
    }
  }

  void initial_state(const std::string& name) {
    add(name, {1, spec_.units}, ParameterRole::bias, 0, {InitialValue::Kind::constant, 0});
  }

  void next_layer() { ++layout_.layers; }
  void head() { group_ = ParameterGroup::base; }
  ModelLayout take() { return std::move(layout_); }

 private:
  void add(const std::string& name, std::vector<std::int64_t> shape, ParameterRole role, std::int64_t fan_in,
           InitialValue initial) {
    ParameterInfo info{name, std::move(shape), layout_.layers, role, fan_in, initial, group_};
    values_ += info.size();
    if (values_ > kMaxParameters) fail("model: it would have more than 2^40 parameters; make its layers narrower");
    layout_.parameters.push_back(std::move(info));
  }

  const ModelSpec& spec_;
  ModelLayout layout_;
  ParameterGroup group_;
  std::int64_t values_ = 0;
};

void check(const ModelSpec& spec, std::int64_t features, int classes) {
  const auto at_least_one = [](const char* key, std::int64_t value, std::int64_t most) {
    if (value < 1 || value > most)
      fail(std::string(key) + ": " + std::to_string(value) + " is not between 1 and " + std::to_string(most));
  };
  at_least_one("model.layers", spec.layers, 1024);
  at_least_one("model.units", spec.units, kMaxWidth);
  at_least_one("model: features of a time step", features, kMaxWidth);
  if (classes < 2) fail("model: a classifier needs at least 2 classes, the dataset has " + std::to_string(classes));
  if (spec.kind != "ttt_rnn") return;
  const TttLayerSpec& ttt = spec.ttt;
  const auto one_of = [](const char* key, const std::string& value, const char* first, const char* second) {
    if (value != first && value != second)
      fail(std::string(key) + ": '" + value + "' is unknown; allowed are " + first + ", " + second);
  };
  one_of("model.ttt.encoder", ttt.encoder, "mlp_1", "mlp_2");
  one_of("model.ttt.inner", ttt.inner, "per_batch", "per_sequence");
  one_of("model.ttt.inner_window", ttt.inner_window, "step", "window");
  at_least_one("model.ttt.inner_iterations", ttt.inner_iterations, 1024);
  if (ttt.inner_window != "window") return;
  at_least_one("model.ttt.sequence_length", ttt.sequence_length, kMaxWidth);
  if (ttt.use_sgd && ttt.inner_iterations > ttt.sequence_length)
    fail("model.ttt.inner_iterations: " + std::to_string(ttt.inner_iterations) +
         " parts cannot be made of windows of " + std::to_string(ttt.sequence_length) +
         " steps (model.ttt.sequence_length); take longer windows or use_sgd: false");
}

}  // namespace

ModelLayout recurrent_layout(const ModelSpec& spec, std::int64_t features, int classes) {
  check(spec, features, classes);
  Builder builder(spec);
  const bool ttt = spec.kind == "ttt_rnn";
  const std::int64_t directions = spec.bidirectional ? 2 : 1;
  std::int64_t in = features;
  for (int i = 0; i < spec.layers; ++i) {
    const std::string name = "layers." + std::to_string(i);
    if (ttt && i == 0) builder.initial_state("initial_state");
    builder.cell(name, in);
    if (spec.bidirectional) {
      if (ttt && i == 0) builder.initial_state(name + ".reverse.initial_state");
      builder.cell(name + ".reverse", in);
    }
    builder.next_layer();
    in = directions * spec.units;
  }
  builder.head();
  builder.linear("readout", in, classes);
  builder.next_layer();
  return builder.take();
}

}  // namespace tenfold

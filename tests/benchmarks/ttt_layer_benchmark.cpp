// Times train steps (forward, backward, AdamW) of models with TTT layers, K members as one array, as the trainer runs
// them: on a GPU as one captured graph. Prints one JSON object a line; ttt_layer_benchmark.py compares. A further model
// is a row of cases().
//
//   ttt_layer_benchmark --device cuda:0 --models ttt_rnn,ttt_mlp --members 1,5,20 --seconds 5
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "experiments/error.h"
#include "trainer/compute.h"
#include "trainer/layers.h"
#include "trainer/model.h"
#include "trainer/optimizer.h"

namespace tenfold {
namespace {

struct Case {
  std::string name;
  ModelSpec spec;
  ModelData data;
  std::int64_t batch, steps;
};

// At the sizes of brain_ttt_rnn.yaml and ttt_lm_placement.yaml.
std::vector<Case> cases() {
  ModelSpec recurrent;
  recurrent.kind = "ttt_rnn";
  recurrent.ttt.inner_iterations = 2;
  recurrent.ttt.base_lr = 0.01;
  const ModelData labels{{512}, 40, SampleKind::sequence, LabelKind::step};
  ModelSpec language;
  language.kind = "ttt_lm";
  language.layers = 6;
  language.width = 192;
  language.heads = 6;
  const ModelData bytes{{1}, 256, SampleKind::tokens, LabelKind::next_token};
  std::vector<Case> all = {{"ttt_rnn", recurrent, labels, 32, 80}};
  recurrent.kind = "gru";
  all.push_back({"gru", recurrent, labels, 32, 80});
  for (const std::string kind : {"linear", "mlp"}) {
    language.ttt.kind = kind;
    language.ttt.base_lr = kind == "linear" ? 1.0 : 0.1;
    all.push_back({"ttt_" + kind, language, bytes, 32, 256});
  }
  return all;
}

struct Measured {
  double forward_s, step_s;
  double loss;  // of member 0, after the timed steps
  std::int64_t repeats, peak_memory_bytes;
};

// Seconds of one call, from as many as fit into `seconds` (at least two), after one to warm up.
double seconds_of(const Compute& compute, const std::function<void()>& call, double seconds, std::int64_t& repeats) {
  using Clock = std::chrono::steady_clock;
  call();
  compute.synchronise();
  const auto begin = Clock::now();
  double passed = 0;
  for (repeats = 0; repeats < 2 || passed < seconds; ++repeats) {
    call();
    compute.synchronise();
    passed = std::chrono::duration<double>(Clock::now() - begin).count();
  }
  return passed / static_cast<double>(repeats);
}

Measured measure(Compute& compute, const Case& c, std::int64_t members, double seconds) {
  const at::Device device = compute.device();
  const std::unique_ptr<Model> model = make_model(c.spec, c.data, false);
  ModelState state = initial_state(model->layout(), 1, 0, 0);
  for (at::Tensor& parameter : state.parameters) {
    std::vector<std::int64_t> shape = parameter.sizes().vec();
    shape[0] = members;
    parameter = parameter.expand(shape).contiguous().to(device).requires_grad_(true);
  }
  Batch batch;
  const std::vector<std::int64_t> rows = {members, c.batch, c.steps};
  if (c.data.kind == SampleKind::tokens)
    batch.x = at::randint(c.data.classes, rows, at::kLong).to(device);
  else
    batch.x = at::randn({members, c.batch, c.steps, c.data.sample_shape[0]}).to(device);
  batch.step_weight = at::ones(rows).to(device);
  const at::Tensor labels = at::randint(c.data.classes, {members, c.batch * c.steps}, at::kLong).to(device);
  const at::Tensor weight = at::ones({members, c.batch * c.steps}).to(device);
  OptimizerSpec adamw;
  StackedOptimizer optimizer(compute, true,
                             std::vector<UpdateRule>(static_cast<std::size_t>(members), update_rule(adamw, 1.0)),
                             state.parameters);
  const at::Tensor lr = at::full({members}, 1e-4).to(device), active = at::ones({members}).to(device);
  ForwardMode mode;
  mode.sample_weight = at::ones({members, c.batch}).to(device);
  mode.base_lr = at::full({members}, c.spec.ttt.base_lr.value_or(0.01)).to(device);
  at::Tensor loss = at::zeros({members}).to(device);

  StepCounter counter = compute.make_counter();
  const auto train = [&] {
    const at::Tensor logits = model->forward(state, batch, mode);
    const layers::LossAndGradient both = layers::cross_entropy_of_labels(logits.detach(), labels, weight, {});
    loss.copy_(both.loss);
    const auto gradients =
        torch::autograd::grad({logits}, state.parameters, {both.logit_gradient}, std::nullopt, false, true);
    c10::NoGradGuard no_grad;
    optimizer.update(gradients, lr, active);
  };
  at::Tensor kept;
  const auto forward = [&] {
    c10::NoGradGuard no_grad;
    kept = model->forward(state, batch, mode);
  };
  Measured measured{};
  {
    StepCounter own = compute.make_counter();
    const auto repeatable = compute.repeatable(forward, own);
    measured.forward_s = seconds_of(compute, repeatable, seconds / 4, measured.repeats);
  }
  const auto repeatable = compute.repeatable(train, counter);
  measured.step_s = seconds_of(compute, repeatable, seconds, measured.repeats);
  measured.loss = loss[0].item<double>();
  measured.peak_memory_bytes = compute.peak_memory_bytes();
  return measured;
}

int run(int argc, char** argv) {
  CLI::App app("Train steps of models with TTT layers, as JSON lines");
  std::string device = "cpu";
  std::vector<std::string> models = {"ttt_rnn"};
  std::vector<std::int64_t> members = {1, 5, 20};
  double seconds = 5;
  std::int64_t steps = 0, batch = 0;
  bool tf32 = true;
  app.add_option("--device", device, "cpu or cuda:N");
  app.add_option("--models", models, "ttt_rnn gru ttt_linear ttt_mlp")->delimiter(',');
  app.add_option("--members", members, "sizes of arrays")->delimiter(',')->check(CLI::Range(1, 4096));
  app.add_option("--seconds", seconds, "of each measurement");
  app.add_option("--steps", steps, "time steps or tokens instead of the model's own");
  app.add_option("--batch", batch, "sequences instead of the model's own");
  app.add_option("--tf32", tf32, "TF32 products on a GPU");
  CLI11_PARSE(app, argc, argv);

  const std::unique_ptr<Compute> compute = make_compute(device);
  if (compute->device().is_cuda()) at::globalContext().setAllowTF32CuBLAS(tf32);
  for (const std::string& name : models) {
    const std::vector<Case> all = cases();
    const auto found = std::find_if(all.begin(), all.end(), [&](const Case& c) { return c.name == name; });
    if (found == all.end()) throw Error(ErrorKind::config, "--models: no case is called '" + name + "'");
    Case c = *found;
    if (steps > 0) c.steps = steps;
    if (batch > 0) c.batch = batch;
    for (const std::int64_t k : members) {
      const Measured m = measure(*compute, c, k, seconds);
      const nlohmann::json line = {
          {"model", name},
          {"device", device},
          {"device_name", compute->description()},
          {"members", k},
          {"batch", c.batch},
          {"steps", c.steps},
          {"features", c.data.sample_shape[0]},
          {"classes", c.data.classes},
          {"layers", c.spec.layers},
          {"units", c.spec.units},
          {"width", c.spec.width},
          {"heads", c.spec.heads},
          {"mini_batch", c.spec.ttt.mini_batch_size},
          {"inner_iterations", c.spec.ttt.inner_iterations},
          {"parameters", model_layout(c.spec, c.data.sample_shape, c.data.classes).parameter_count()},
          {"forward_s", m.forward_s},
          {"step_s", m.step_s},
          {"loss", m.loss},
          {"repeats", m.repeats},
          {"peak_memory_bytes", m.peak_memory_bytes}};
      std::printf("%s\n", line.dump().c_str());
      std::fflush(stdout);
    }
  }
  return 0;
}

}  // namespace
}  // namespace tenfold

int main(int argc, char** argv) {
  try {
    return tenfold::run(argc, argv);
  } catch (const tenfold::Error& error) {
    std::fprintf(stderr, "ttt_layer_benchmark: %s\n", error.what());
    return tenfold::exit_code(error.kind());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ttt_layer_benchmark: %s\n", error.what());
    return 1;
  }
}

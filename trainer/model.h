#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "experiments/sample_kind.h"
#include "experiments/spec.h"
#include "trainer/compute.h"
#include "trainer/model_layout.h"

namespace tenfold {

class InnerLossRecorder;  // ttt/inner_loss.h

// The dropout masks of the current step, made where they are asked for and kept in one buffer per site and shape.
class DropoutMasks {
 public:
  DropoutMasks(const Compute& compute, DropoutTables tables) : compute_(compute), tables_(std::move(tables)) {}
  DropoutTables& tables() { return tables_; }
  // (K, batch, units), or (1, batch, units) for all members, for the layer called `site`. Of sequences, units are
  // steps * width, padded steps included.
  at::Tensor mask(int site, std::int64_t batch, std::int64_t units, const StepCounter& counter);
  bool any() const;  // whether any member drops anything

 private:
  const Compute& compute_;
  DropoutTables tables_;
  // A captured step goes on writing where it did.
  std::map<std::tuple<int, std::int64_t, std::int64_t>, at::Tensor> buffers_;
};

// What a model is given of the samples of K members.
struct Batch {
  at::Tensor x;            // fixed (K, B, features), sequences (K, B, T, features), tokens (K, B, T) int64
  at::Tensor step_weight;  // (K, B, T) float32: 1 for a real step, 0 for padding, which comes last; undefined if fixed
};

// How a forward pass runs.
struct ForwardMode {
  DropoutMasks* dropout = nullptr;       // null: no dropout
  const StepCounter* counter = nullptr;  // of the masks
  bool batch_statistics = false;         // batch norm by the batch, running statistics moved by `momentum`
  at::Tensor sample_weight;              // (K, B): 0 for padding; may be undefined in eval mode: all are real
  at::Tensor momentum;                   // (K)
  InnerLossRecorder* inner_losses = nullptr;
  at::Tensor base_lr;  // (K) model.ttt.base_lr of each member, on the device; undefined: the model's spec in all
  Collective* group = nullptr;  // whose ranks' samples are one batch for batch_statistics
};

// Parameters and buffers of K members, each (K, ...), in the layout's order.
struct ModelState {
  std::vector<at::Tensor> parameters;
  std::vector<at::Tensor> buffers;
};

// What a model must know of the data.
struct ModelData {
  std::vector<std::int64_t> sample_shape;  // of a sample, or of one step of a sequence
  int classes = 0;
  SampleKind kind = SampleKind::fixed;
  LabelKind label_kind = LabelKind::sample;
};

// A model as a function of its parameters: nothing is kept between calls but what the layout says. Float32 and
// float64 parameters are both taken (gradients are checked in float64).
class Model {
 public:
  Model(ModelSpec spec, ModelData data, ModelLayout layout)
      : spec_(std::move(spec)), data_(std::move(data)), layout_(std::move(layout)) {}
  virtual ~Model() = default;
  const ModelLayout& layout() const { return layout_; }
  const ModelSpec& spec() const { return spec_; }
  const ModelData& data() const { return data_; }
  // Logits (K, R, classes): R = B where a sample has one label, R = B * T (sample-major) where each step has one.
  virtual at::Tensor forward(ModelState& state, const Batch& batch, const ForwardMode& mode) const = 0;
  // Whether a sample's logits depend on the other samples of its batch also in eval mode (inner: per_batch); they
  // are then evaluated in batches of train.batch_size.
  virtual bool mixes_samples() const { return false; }

 private:
  ModelSpec spec_;
  ModelData data_;
  ModelLayout layout_;
};

// Throws Error(config) where the model cannot take the samples. deterministic: see ExperimentSpec.
std::unique_ptr<Model> make_model(const ModelSpec& spec, const ModelData& data, bool deterministic);

std::unique_ptr<Model> make_classifier_model(const ModelSpec& spec, const ModelData& data,
                                             bool deterministic);                           // mlp, cnn
std::unique_ptr<Model> make_recurrent_model(const ModelSpec& spec, const ModelData& data);  // ttt_rnn, gru, lstm
std::unique_ptr<Model> make_ttt_lm(const ModelSpec& spec, const ModelData& data);
std::unique_ptr<Model> make_transformer_lm(const ModelSpec& spec, const ModelData& data);

// Initial values of one member, as (1, ...) float tensors on the CPU, as ParameterInfo::initial says. Keyed by (seed,
// repeat, fold, parameter name, flat index), so equal names and shapes begin equal in every configuration.
ModelState initial_state(const ModelLayout& layout, std::uint64_t seed, int repeat, int fold);

}  // namespace tenfold

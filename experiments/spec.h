#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

// The experiment file as typed structs: a section of the YAML is a struct, a key is a member of the
// same name, and the initialiser is the default. The list of fields with their documentation and
// allowed values is in spec_fields.h; reading, writing, schema, sweep and identity are made from it.
namespace tenfold {

// A distribution shift applied to the held-out fold only, before normalisation.
struct ShiftSpec {
  std::string kind = "none";  // none gaussian_noise contrast blur translate feature_dropout rotate
  int severity = 3;           // 1..5
  bool operator==(const ShiftSpec&) const = default;
};

struct DatasetSpec {
  // digits csv npy npz idx synthetic; sequences: hdf5 mat wav synthetic_sequences (npz with offsets_key); text: text
  // tokens
  std::string kind;
  std::string path;               // the file; npy, idx: the samples file; wav: the folder (or .tar.xz/.tar.gz of one)
  std::string labels;             // npy, idx: the labels file
  std::string groups;             // npy: the groups file (optional)
  std::string samples_key = "x";  // npz: names of the arrays
  std::string labels_key = "y";
  std::string groups_key;                        // npz: empty for none
  std::string label_column;                      // csv
  std::string group_column;                      // csv: empty for none
  std::string fold_column;                       // csv: the column of `folds: {kind: predefined}`
  std::vector<std::string> categorical_columns;  // csv: one-hot; text columns are found by themselves
  std::vector<std::string> ignore_columns;       // csv
  std::string missing = "error";                 // csv: error names the line; drop leaves the row out
  std::string offsets_key;  // npz: (N + 1) first rows of ragged sequences; empty: samples are of one shape
  std::string features_key = "input_features";  // hdf5, mat: (T, features) of a trial
  std::string targets_key = "seq_class_ids";    // hdf5, mat: (T) or one value
  std::string session_attribute = "session";    // hdf5, mat: attribute (hdf5) or variable (mat) that holds the group
  std::string file_pattern = "(?<label>[^_]+)_(?<group>[^_]+)_.*";  // wav: label and group in a file's name
  int sample_rate = 8000;                                           // wav: others are refused
  int mels = 40;                                                    // wav: log-mel bands
  double frame_ms = 25;                                             // wav
  double hop_ms = 10;                                               // wav
  std::string tokenizer;                                            // text: a SentencePiece model; empty: bytes
  int vocabulary = 0;                                               // tokens: 0 takes the largest token + 1
  int sequence_length = 256;                                        // text, tokens: predicted tokens of one sample
  std::vector<std::string> feature_ranges;  // columns that the model sees, first:end; empty: all
  int max_length = 0;                       // sequences are cut to so many steps; 0: not
  int length_buckets = 8;                   // padded lengths that batches of sequences come in
  std::string transform = "none";           // none log1p: of every value, before normalisation
  std::string normalise_by = "set";         // set group: statistics of all training samples or of each group
  std::string normalisation = "standard";   // standard minmax robust none; fitted on the training part of a fold
  int samples = 1000;                       // synthetic: Gaussian classes; synthetic_sequences
  int features = 20;
  int classes = 3;
  int group_count = 0;  // synthetic_sequences: sessions
  int min_steps = 19;   // synthetic_sequences: lengths
  int max_steps = 200;
  double mean_steps = 76.9;
  double separation = 2.0;  // distance of the class means in standard deviations
  std::uint64_t seed = 0;
  ShiftSpec shift;
  bool operator==(const DatasetSpec&) const = default;
};

struct FoldSpec {
  // kfold stratified group stratified_group repeated leave_one_group_out held_out_class predefined
  std::string kind = "stratified";
  int k = 5;
  int repeats = 1;
  std::uint64_t seed = 0;
  double validation = 0.0;  // share of the training part, for early stopping and plateau schedules
  bool operator==(const FoldSpec&) const = default;
};

// The layers whose hidden state is a small model trained by the forward pass (formulas in ttt/ttt_rnn.h,
// ttt/ttt_layer.h). An unset value takes the default of the kind of model (method_defaults.cpp).
struct TttLayerSpec {
  std::string kind = "mlp";  // language models: linear mlp
  std::vector<std::string> layers = {
      "none"};                    // transformer_lm: none all early middle late every:N first:N last:N indices
  std::optional<double> base_lr;  // of the inner loop
  int mini_batch_size = 16;       // tokens of one inner step
  int inner_layers = 2;           // kind mlp: 2 to 5
  int inner_iterations = 1;       // ttt_rnn
  std::optional<double> inner_clip_norm;
  bool persistent = false;  // fast weights carry over: to the next time step (ttt_rnn), to the next call of a stream
  double gate_init = 0.1;   // transformer_lm: alpha of x + tanh(alpha) TTT(x)
  int checkpoint_group_size = 0;      // mini-batches recomputed together in the backward pass; 0: none are
  std::string dialect = "causal";     // transformer_lm: causal video_dit
  bool share_qk = false;              // ttt_lm
  bool use_gate = false;              // ttt_lm
  bool pre_conv = false;              // ttt_lm
  std::string encoder = "mlp_2";      // ttt_rnn: mlp_1 mlp_2
  bool decoder_ln = true;             // ttt_rnn
  std::string inner = "per_batch";    // ttt_rnn: per_batch per_sequence: whose gradients the inner steps take
  std::string inner_window = "step";  // ttt_rnn: step window: what one inner loop learns from
  int sequence_length = 32;           // ttt_rnn, inner_window window: time steps of a window
  bool use_sgd = true;                // ttt_rnn, inner_window window: each inner step takes its own part of the window
  bool operator==(const TttLayerSpec&) const = default;
};

// W + scaling * B A beside chosen projections (Hu et al. 2021).
struct LoraSpec {
  int rank = 0;  // 0: none
  double scaling = 2.0;
  std::vector<std::string> projections = {"q_proj", "k_proj", "v_proj", "o_proj"};
  bool operator==(const LoraSpec&) const = default;
};

struct ModelSpec {
  std::string kind = "mlp";              // mlp cnn ttt_rnn gru lstm ttt_lm transformer_lm
  std::vector<int> hidden = {128, 128};  // widths of the hidden linear layers
  std::string norm = "layer";            // layer batch none
  std::string activation = "relu";       // relu gelu tanh
  double dropout = 0.0;
  std::vector<int> channels = {16, 32};  // cnn: output channels of the convolutions
  int kernel_size = 3;                   // cnn: odd
  int layers = 2;                        // sequence and language models
  int units = 256;                       // ttt_rnn gru lstm
  bool bidirectional = false;            // ttt_rnn gru lstm
  int width = 128;                       // language models: of the residual stream
  int heads = 4;                         // language models
  int feed_forward = 0;                  // language models: 0 takes 8/3 width rounded up to a multiple of 16
  bool tie_embeddings = false;           // language models: the output projection is the embedding
  double rope_base = 10000;              // language models
  std::string checkpoint;                // language models: safetensors file or folder to start from
  TttLayerSpec ttt;
  LoraSpec lora;
  bool operator==(const ModelSpec&) const = default;
};

struct OptimizerSpec {
  std::string kind = "adamw";  // sgd adam adamw
  double lr = 1e-3;
  double weight_decay = 0.01;
  double momentum = 0.9;  // sgd
  bool nesterov = false;  // sgd
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  bool operator==(const OptimizerSpec&) const = default;
};

// The learning rate over updates (training) or passes (adaptation). `schedule: cosine` is short for
// `schedule: {kind: cosine}`.
struct ScheduleSpec {
  std::string kind = "constant";  // constant cosine step plateau
  int warmup_steps = 0;           // linear from 0, before any kind
  double min_lr = 0.0;
  int step_size = 1000;     // step: multiply by factor every step_size
  double factor = 0.1;      // step, plateau
  int patience = 10;        // plateau: epochs (training, on validation loss) or passes (adaptation, on total)
  double threshold = 1e-4;  // plateau: relative improvement that counts
  bool operator==(const ScheduleSpec&) const = default;
};

struct EarlyStoppingSpec {
  int patience = 0;  // evaluations of the validation part without improvement; 0: off
  double min_delta = 0.0;
  bool operator==(const EarlyStoppingSpec&) const = default;
};

// Learning rates of groups of parameters; unset: the optimizer's.
struct GroupRatesSpec {
  std::optional<double> ttt, gate, lora, base;
  bool operator==(const GroupRatesSpec&) const = default;
};

struct TrainSpec {
  int epochs = 20;
  std::optional<int> steps;  // instead of epochs: optimizer updates
  int batch_size = 32;
  OptimizerSpec optimizer;
  ScheduleSpec schedule;
  std::optional<double> clip_norm;
  std::vector<std::string> parameters = {"all"};  // what trains: patterns as in ttt.parameters, or none (frozen)
  GroupRatesSpec group_lr;
  double label_smoothing = 0.0;
  EarlyStoppingSpec early_stopping;
  std::optional<int> eval_every_steps;  // validation part; default: once an epoch
  bool operator==(const TrainSpec&) const = default;
};

// Optimizer of adaptation. Unset values take the default of the method (method_defaults.cpp).
struct TttOptimizerSpec {
  std::optional<std::string> kind;
  std::optional<double> weight_decay;
  double momentum = 0.9;
  bool nesterov = false;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  bool operator==(const TttOptimizerSpec&) const = default;
};

// diversity weight min(w + slope (target - h), max) where h = H(pbar)/log C < target
struct AdaptiveWeightSpec {
  bool enabled = false;
  double target = 0.85;
  double slope = 0.5;
  double max = 0.3;
  bool operator==(const AdaptiveWeightSpec&) const = default;
};

struct TttStopSpec {
  double collapse_below = 0.0;  // stop when h of a whole pass falls below; 0: off (the field uses 0.8)
  int patience = 0;             // passes without improvement of the total; 0: off
  double min_delta = 1e-5;
  int after = 20;  // passes before `patience` counts
  bool operator==(const TttStopSpec&) const = default;
};

// Test-time adaptation on the unlabelled held-out fold (Sun et al. 2020; Wang et al. 2021). Optional
// values take the default of the method when the configuration is resolved.
struct TttSpec {
  std::string method = "entropy_diversity";  // source bn tent shot_im entropy_diversity
  double diversity_weight = 0.15;
  std::optional<int> steps;  // passes over the adaptation set
  std::optional<int> batch_size;
  std::optional<double> lr;
  std::optional<std::vector<std::string>> parameters;  // all norm last:N first:N layers:[i,j] or name patterns
  std::optional<int> query_size;                       // samples of the held-out fold; 0 means all of it
  TttOptimizerSpec optimizer;
  std::optional<ScheduleSpec> schedule;
  std::optional<double> clip_norm;   // 0: none
  std::optional<std::string> mode;   // train eval: dropout on or off
  std::optional<std::string> reset;  // fold batch
  std::optional<bool> shuffle;       // a new order of the adaptation set each pass
  AdaptiveWeightSpec adaptive_weight;
  TttStopSpec stop;
  std::optional<int> eval_every_steps;  // metrics on the held-out fold while adapting
  bool operator==(const TttSpec&) const = default;
};

struct ResourcesSpec {
  std::string device = "auto";  // auto cpu cuda
  int slots = 0;                // 0: the GPUs, or else the cores
  int max_array = 0;            // members computed as one; 0: by device
  int ranks_per_trial = 1;      // slots that share the batches of one trial; sums in another order, so part of a result
  int slots_per_gpu = 1;        // trainers that share a GPU
  double stall_limit_s = 600;   // a trainer whose step stands still for so long is replaced; 0: never
  int requeues = 20;            // of a cluster job that reached its time limit
  bool operator==(const ResourcesSpec&) const = default;
};

// A loss, gradient or prediction that is not finite. Says nothing about trials that stay finite.
struct NonFiniteSpec {
  std::string policy = "fail";  // fail stop lower_rate
  double factor = 0.5;          // lower_rate: of the learning rate, going back to the last checkpoint or the start
  int times = 3;                // lower_rate: then it fails
  bool operator==(const NonFiniteSpec&) const = default;
};

struct CheckpointSpec {
  double every_s = 30;
  std::optional<int> every_steps;
  int keep = 2;
  std::optional<int> keep_every_steps;  // history kept beside the newest
  bool operator==(const CheckpointSpec&) const = default;
};

// Recording of how the inner loop learns (Sun et al. 2024, figure 5), while the held-out fold is evaluated.
struct InnerLossSpec {
  int every = 0;  // record at every n-th evaluation of the held-out fold; 0: never
  int max_positions = 2048;
  std::vector<std::string> layers = {"all"};
  bool operator==(const InnerLossSpec&) const = default;
};

struct DiagnosticsSpec {
  InnerLossSpec inner_loss;
  std::string minimal_pairs;  // language models: JSONL file of pairs (datasets/minimal_pairs.h)
  bool operator==(const DiagnosticsSpec&) const = default;
};

struct ExperimentSpec {
  std::string name;
  std::uint64_t seed = 0;
  DatasetSpec dataset;
  FoldSpec folds;
  ModelSpec model;
  TrainSpec train;
  TttSpec ttt;
  std::vector<std::string> metrics = {"accuracy", "nll", "ece"};
  DiagnosticsSpec diagnostics;
  bool deterministic = false;         // convolutions by im2col: the same bits whatever the array, slower
  std::string precision = "float32";  // of matrix products on GPUs: float32 tf32
  int retries = 2;                    // of a trial's failed attempts
  NonFiniteSpec on_nonfinite;
  ResourcesSpec resources;
  CheckpointSpec checkpoint;
  bool operator==(const ExperimentSpec&) const = default;
};

}  // namespace tenfold
